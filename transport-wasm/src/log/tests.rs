use std::{cell::RefCell as StdRefCell, rc::Rc};

use super::{
    flat::tests::{Decoded, decode},
    *,
};
use crate::fake;

/// Runs `test` with the subscriber of this thread's log, without the global default that only one test could set.
fn logged(test: impl FnOnce()) {
    with_state(|state| *state = State::new());
    dispatcher::with_default(&Dispatch::new(GuestSubscriber), test);
}

fn pop() -> Option<Decoded> {
    with_state(State::pop).flatten().map(|bytes| decode(&bytes))
}

#[test]
fn events_become_records() {
    logged(|| {
        let outer = tracing::info_span!("outer");
        let _outer = outer.enter();
        let inner = tracing::info_span!("inner", ignored = 1);
        let _inner = inner.enter();
        tracing::warn!(target: "my::target", count = 7, name = "x y", ok = true, "hello {}", "world");
        tracing::debug!("below the level");
        set_now(1_700_000_000_000);
        tracing::error!("second");
    });
    let first = pop().unwrap();
    assert_eq!(first.level, 3);
    assert_eq!(first.target, "my::target");
    assert_eq!(first.message, "hello world");
    let fields: Vec<_> = first
        .fields
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(fields, ["count=7", "name=x y", "ok=true"]);
    assert_eq!(first.spans, ["outer", "inner"]);
    assert_eq!(first.timestamp_ms, 0);
    let second = pop().unwrap();
    assert_eq!(
        (second.message.as_str(), second.timestamp_ms),
        ("second", 1_700_000_000_000)
    );
    assert!(pop().is_none());
}

#[test]
fn everything_is_cut_to_its_limit() {
    let long = "é".repeat(10_000);
    with_state(|state| {
        *state = State::new();
        let fields = (0..100).map(|_| ("key", long.clone())).collect();
        state.push(
            2,
            &long,
            &Said {
                message: long.clone(),
                fields,
            },
        );
    });
    let record = pop().unwrap();
    assert!(record.message.len() <= MAX_MESSAGE && record.message.len() > MAX_MESSAGE - 2);
    assert_eq!(record.fields.len(), MAX_FIELDS);
    assert!(
        record
            .fields
            .iter()
            .all(|(_, value)| value.len() <= MAX_VALUE)
    );
    assert!(record.target.len() <= MAX_TARGET);
    let mut bounded = Bounded::new(3);
    for part in ["ab", "cd", "e"] {
        bounded.write_str(part).unwrap();
    }
    assert_eq!(bounded.into_text(), "abc");
}

#[test]
fn suppressed_records_are_counted_in_the_next() {
    with_state(|state| {
        *state = State::new();
        let small = Said {
            message: "m".into(),
            ..Said::default()
        };
        for _ in 0..MAX_QUEUED_RECORDS + 5 {
            state.push(2, "t", &small);
        }
        state.pop();
        state.push(2, "t", &small);
        // By bytes as well as by number.
        while state.pop().is_some() {}
        let large = Said {
            message: "m".repeat(MAX_MESSAGE),
            ..Said::default()
        };
        for _ in 0..40 {
            state.push(2, "t", &large);
        }
        let queued = state.unwritten();
        assert_eq!(queued, 40);
        state.pop();
        state.push(2, "t", &small);
    });
    let mut last = None;
    let mut count = 0;
    while let Some(record) = pop() {
        count += 1;
        last = Some(record);
    }
    let fields = last.unwrap().fields;
    assert_eq!(fields.len(), 1);
    assert_eq!(fields[0].0, "suppressed");
    assert_eq!(fields[0].1.parse::<usize>().unwrap() + count, 40);
}

#[test]
fn the_first_suppression_is_reported_once() {
    with_state(|state| {
        *state = State::new();
        for _ in 0..MAX_QUEUED_RECORDS + 5 {
            state.push(2, "t", &Said::default());
        }
        (0..2).for_each(|_| drop(state.pop()));
        (0..2).for_each(|_| state.push(2, "t", &Said::default()));
    });
    let mut records = Vec::new();
    while let Some(record) = pop() {
        records.push(record);
    }
    assert_eq!(records.len(), MAX_QUEUED_RECORDS);
    let [.., with, without] = records.as_slice() else {
        panic!()
    };
    assert_eq!(with.fields, [("suppressed".to_owned(), "5".to_owned())]);
    assert!(without.fields.is_empty());
}

#[test]
fn spans_beyond_the_limit_have_no_name() {
    with_state(|state| {
        *state = State::new();
        let ids: Vec<_> = (0..MAX_SPANS + 3).map(|_| state.open_span("s")).collect();
        ids.iter().for_each(|id| state.enter(*id));
        ids.iter().rev().for_each(|id| state.exit(*id));
        assert_eq!(
            ids.iter().filter(|id| state.close_span(**id)).count(),
            MAX_SPANS
        );
        let id = state.open_span("again");
        state.clone_span(id);
        assert!(!state.close_span(id));
        assert!(state.close_span(id));
        assert!(!state.close_span(id));
    });
}

/// The whole path, in one test because the global subscriber and the panic hook are per process.
#[test]
fn init_writes_and_panics_get_out() {
    fake::reset();
    let busy = Rc::new(StdRefCell::new(false));
    let hold = Rc::clone(&busy);
    let written = Rc::new(StdRefCell::new(Vec::new()));
    let sink = Rc::clone(&written);
    fake::on("selium::channel::strong_write", move |args| {
        if *hold.borrow() {
            return fake::Reply::Pending;
        }
        sink.borrow_mut().push(decode(
            &selium_abi::decode_rkyv::<selium_abi::IoWrite>(args)
                .unwrap()
                .payload,
        ));
        fake::ok(&1u32)
    });
    crate::executor::run(async move {
        init().await.unwrap();
        tracing::info!("one");
        tracing::info!("two");
        while written.borrow().len() < 2 {
            executor::yield_now().await;
        }
        executor::yield_now().await;
        // Idle: the record goes out through the strong writer.
        let previous = std::panic::take_hook();
        install_panic_hook();
        let _ = std::panic::catch_unwind(|| panic!("boom"));
        assert!(written.borrow()[2].message.contains("boom"));
        // In flight: through the weak one, after the strong one was freed.
        WRITERS.set(Some(Writers {
            strong: fake::alloc(false),
            weak: Some(fake::alloc(false)),
            busy: true,
        }));
        let _ = std::panic::catch_unwind(|| panic!("bang"));
        std::panic::set_hook(previous);
        let last = fake::take_written().pop().unwrap().1;
        assert!(decode(&last).message.contains("bang"));
        assert_eq!(decode(&last).level, 4);
    })
    .unwrap();
    assert_eq!(fake::calls("selium::process::register_log_channel"), 1);
    assert!(fake::violations().is_empty(), "{:?}", fake::violations());
    drop(busy);
}

#[test]
fn init_without_capability_leaves_nothing_behind() {
    fake::reset();
    fake::on("selium::process::register_log_channel", |_| {
        fake::error("permission denied")
    });
    let result = crate::executor::run(init()).unwrap();
    assert_eq!(result, Err(InitError::Host(HostError::PermissionDenied)));
    assert_eq!(fake::slots_in_use(), 0);
}
