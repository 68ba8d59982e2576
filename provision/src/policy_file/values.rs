//! Reading single values, each with an error that says what it should be.

use core::ops::Range;
use std::path::Path;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{PolicyError, Position};

/// The most bytes of a file's words that an error repeats.
const MAX_QUOTE: usize = 64;

/// What an error needs to know.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

pub(super) type Result<T> = core::result::Result<T, PolicyError>;

impl Source<'_> {
    pub(super) fn position(self, span: &Range<usize>) -> Position {
        Position::of(self.text, span.start)
    }

    pub(super) fn error(self, span: &Range<usize>, message: impl Into<String>) -> PolicyError {
        PolicyError::new(self.path, Some(self.position(span)), message.into())
    }

    fn mismatch(self, value: &Spanned<DeValue<'_>>, key: &str, expected: &str) -> PolicyError {
        let found = value.get_ref().type_str();
        let message = format!("`{key}` must be {expected}, this is of the type {found}");
        self.error(&value.span(), message)
    }

    pub(super) fn table<'t, 'i>(
        self,
        value: &'t Spanned<DeValue<'i>>,
        key: &str,
        expected: &str,
    ) -> Result<&'t DeTable<'i>> {
        let table = value.get_ref().as_table();
        table.ok_or_else(|| self.mismatch(value, key, expected))
    }

    pub(super) fn flag(self, value: &Spanned<DeValue<'_>>, key: &str) -> Result<bool> {
        let flag = value.get_ref().as_bool();
        flag.ok_or_else(|| self.mismatch(value, key, "true or false"))
    }

    pub(super) fn text<'t>(
        self,
        value: &'t Spanned<DeValue<'_>>,
        key: &str,
        expected: &str,
    ) -> Result<&'t str> {
        let text = value.get_ref().as_str();
        text.ok_or_else(|| self.mismatch(value, key, expected))
    }

    /// An integer in a range.
    pub(super) fn number(
        self,
        value: &Spanned<DeValue<'_>>,
        key: &str,
        range: (u32, u32),
    ) -> Result<u32> {
        let (min, max) = range;
        let expected = format!("a whole number from {min} to {max}");
        let Some(integer) = value.get_ref().as_integer() else {
            return Err(self.mismatch(value, key, &expected));
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.and_then(|it| u32::try_from(it).ok());
        match number {
            Some(number) if (min..=max).contains(&number) => Ok(number),
            _ => {
                let message = format!("`{key}` is out of range: write {expected}");
                Err(self.error(&value.span(), message))
            }
        }
    }

    /// A list of texts, with their places; a single text where `one` is allowed.
    pub(super) fn texts<'t>(
        self,
        value: &'t Spanned<DeValue<'_>>,
        key: &str,
        example: &str,
        one: bool,
        most: usize,
    ) -> Result<Vec<(Range<usize>, &'t str)>> {
        if let (true, Some(text)) = (one, value.get_ref().as_str()) {
            return Ok(vec![(value.span(), text)]);
        }
        let expected = format!("a list of texts, like {key} = {example}");
        let Some(items) = value.get_ref().as_array() else {
            return Err(self.mismatch(value, key, &expected));
        };
        if items.len() > most {
            let message = format!("`{key}` has {} items, more than {most}", items.len());
            return Err(self.error(&value.span(), message));
        }
        let item =
            |item: &'t Spanned<DeValue<'_>>| Ok((item.span(), self.text(item, key, &expected)?));
        items.iter().map(item).collect()
    }

    /// A word that is not known, with the one that is probably meant, or else all of them.
    pub(super) fn unknown<'k>(
        self,
        span: &Range<usize>,
        what: &str,
        word: &str,
        known: impl Iterator<Item = &'k str> + Clone,
    ) -> PolicyError {
        let hint = match nearest(word, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are: {}", known.collect::<Vec<_>>().join(", ")),
        };
        self.error(span, format!("unknown {what} `{}`; {hint}", quote(word)))
    }
}

/// A file's words, fit for a terminal and not too long.
pub(super) fn quote(word: &str) -> String {
    let clipped = selium_remote_client_protocol::error::clip(word, MAX_QUOTE);
    let end = if clipped.len() < word.len() {
        "..."
    } else {
        ""
    };
    format!("{}{end}", clipped.escape_debug())
}

/// The known word that is closest, if one is close: at most a third of its characters differ.
fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > MAX_QUOTE {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let near = known.map(|it| (distance(&word, &it.to_ascii_lowercase()), it));
    let (distance, near) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= near.len().div_ceil(3)).then_some(near)
}

/// How many characters must be inserted, removed or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (above, a) in one.chars().enumerate() {
        let mut corner = above;
        let mut left = above + 1;
        let mut cells = row.iter_mut();
        if let Some(first) = cells.next() {
            *first = left;
        }
        for (cell, b) in cells.zip(other.chars()) {
            let replaced = corner + usize::from(a != b);
            corner = *cell;
            left = replaced.min(corner + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}
