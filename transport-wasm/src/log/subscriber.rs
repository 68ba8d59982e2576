//! The bridge from `tracing`.

use core::fmt::{self, Write as _};

use tracing_core::{
    Event, Interest, Level, LevelFilter, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{
    MAX_FIELDS, MAX_MESSAGE, MAX_VALUE,
    queue::{Bounded, Said},
    with_state,
};

/// Sends everything to the thread's log queue.
pub(super) struct GuestSubscriber;

fn max_level() -> LevelFilter {
    with_state(|state| state.max_level).unwrap_or(LevelFilter::OFF)
}

/// The schema's number of a level.
pub(super) fn level_number(level: &Level) -> u8 {
    match *level {
        Level::TRACE => 0,
        Level::DEBUG => 1,
        Level::INFO => 2,
        Level::WARN => 3,
        Level::ERROR => 4,
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Without the quotes of `Debug`.
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // To the thousandth, as an integer: formatting floats would add 15 KB to a module that logs none.
        let thousandths = (value * 1_000.0) as i64;
        self.record_debug(field, &format_args!("{thousandths}e-3"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let is_message = field.name() == "message";
        if !is_message && self.fields.len() >= MAX_FIELDS {
            return;
        }
        let mut text = Bounded::new(if is_message { MAX_MESSAGE } else { MAX_VALUE });
        // `Bounded` never fails; a `Debug` that does keeps what it has written.
        let _ = write!(text, "{value:?}");
        if is_message {
            self.message = text.into_text();
        } else {
            self.fields.push((field.name(), text.into_text()));
        }
    }
}

impl Subscriber for GuestSubscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= max_level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(max_level())
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let id = with_state(|state| state.open_span(attributes.metadata().name()));
        span::Id::from_u64(id.unwrap_or(super::MAX_SPANS as u64 + 1))
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        // Formatting runs foreign code, which may log: the state is not borrowed meanwhile.
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        with_state(|state| state.push(level_number(metadata.level()), metadata.target(), &said));
    }

    fn enter(&self, span: &span::Id) {
        with_state(|state| state.enter(span.into_u64()));
    }

    fn exit(&self, span: &span::Id) {
        with_state(|state| state.exit(span.into_u64()));
    }

    fn clone_span(&self, span: &span::Id) -> span::Id {
        with_state(|state| state.clone_span(span.into_u64()));
        span.clone()
    }

    fn try_close(&self, span: span::Id) -> bool {
        with_state(|state| state.close_span(span.into_u64())).unwrap_or(false)
    }
}
