//! What holds for any messages and any input. `PROPTEST_RNG_SEED=N` repeats a run.

use proptest::prelude::*;

use super::*;

const LONGEST: usize = 64;

fn framings() -> impl Strategy<Value = Framing> {
    proptest::sample::select(Framing::value_variants())
}

/// Messages of every kind: text, bytes, newlines, lengths.
fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..=LONGEST),
        proptest::collection::vec(
            proptest::sample::select(b"\n\r\0\"\\{}a\xff\xc3\xa4".as_slice()),
            1..=LONGEST
        ),
        "[a-z\\n ]{1,16}".prop_map(String::into_bytes),
    ]
}

/// What came out, and whether the end was reached.
struct Cut {
    messages: Vec<Vec<u8>>,
    error: Option<FrameError>,
    empty: u64,
    gaps: u64,
}

/// Feeds the input in pieces of these sizes, over and over.
fn cut(framing: Framing, chunk: usize, input: &[u8], pieces: &[usize]) -> Cut {
    let mut decoder = Decoder::new(framing, LONGEST, chunk);
    let mut messages = Vec::new();
    let mut rest = input;
    let mut pieces = pieces.iter().cycle();
    let mut go = || -> Result<(), FrameError> {
        while !rest.is_empty() {
            let size = pieces.next().copied().unwrap_or(1).clamp(1, rest.len());
            let (piece, behind) = rest.split_at(size);
            rest = behind;
            decoder.feed(piece);
            while let Some(message) = decoder.next()? {
                messages.push(message.to_vec());
            }
        }
        while let Some(message) = decoder.finish()? {
            messages.push(message.to_vec());
        }
        Ok(())
    };
    let error = go().err();
    Cut {
        messages,
        error,
        empty: decoder.empty(),
        gaps: decoder.gaps(),
    }
}

fn written(framing: Framing, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (sequence, message) in messages.iter().enumerate() {
        Encoder::new(framing, false).message(sequence as u64, message, &mut out);
    }
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        framing in framings(),
        messages in proptest::collection::vec(message(), 0..20),
        pieces in proptest::collection::vec(1..200_usize, 1..5),
        chunk in 1..=LONGEST,
    ) {
        let cut = cut(framing, chunk, &written(framing, &messages), &pieces);
        match framing {
            Framing::Len32 | Framing::Json => {
                prop_assert_eq!(cut.error, None);
                prop_assert_eq!(cut.messages, messages);
            }
            // Lines cannot have newlines, but lose nothing else.
            Framing::Line => {
                let lines: Vec<_> = messages.iter().flat_map(|message| message.split(|byte| *byte == b'\n')).collect();
                let full: Vec<_> = lines.iter().filter(|line| !line.is_empty()).collect();
                prop_assert_eq!(cut.error, None);
                prop_assert_eq!(cut.empty, (lines.len() - full.len()) as u64);
                prop_assert_eq!(cut.messages.iter().collect::<Vec<_>>(), full);
            }
            Framing::Raw => {
                prop_assert_eq!(cut.error, None);
                let all = messages.concat();
                prop_assert_eq!(cut.messages.iter().collect::<Vec<_>>(), all.chunks(chunk).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn any_input_gives_messages_or_an_error_however_it_comes(
        framing in framings(),
        input in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..400),
            proptest::collection::vec(proptest::sample::select(b"\0\0\0\x01\n{}\"text:bas64gp,=A".as_slice()), 0..400),
            "(\\{\"(text|base64|gap)\":(\"[A-Za-z=]{0,8}\"|null|3)\\}\\n?){0,8}".prop_map(String::into_bytes),
        ],
        pieces in proptest::collection::vec(1..100_usize, 1..5),
        chunk in 1..=LONGEST,
    ) {
        let one = cut(framing, chunk, &input, &pieces);
        let other = cut(framing, chunk, &input, &[1]);
        prop_assert_eq!(&one.messages, &other.messages);
        prop_assert_eq!(one.error.is_some(), other.error.is_some());
        prop_assert_eq!((one.empty, one.gaps), (other.empty, other.gaps));
        for message in &one.messages {
            prop_assert!((1..=LONGEST).contains(&message.len()));
        }
        if let Some(error) = &one.error {
            prop_assert!(error.to_string().len() < 400);
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_and_none_before_it(
        framing in proptest::sample::select([Framing::Line, Framing::Len32, Framing::Json].as_slice()),
        longer in 1..=3_usize,
        byte in proptest::sample::select(b"a\xff\0".as_slice()),
        pieces in proptest::collection::vec(1..100_usize, 1..5),
    ) {
        let messages = [vec![byte; LONGEST], vec![byte; LONGEST + longer], vec![byte]];
        let cut = cut(framing, 1, &written(framing, &messages), &pieces);
        prop_assert_eq!(cut.messages, &messages[..1]);
        let is_named = matches!(
            cut.error,
            Some(FrameError::TooLong { place, limit: LONGEST, .. }) if place.message == 2
        );
        prop_assert!(is_named);
    }

    #[test]
    fn base64_is_exact(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[A-Za-z0-9+/=]{0,12}") {
        prop_assert_eq!(super::base64::decode(&super::base64::encode(&bytes)), Some(bytes));
        if let Some(bytes) = super::base64::decode(&text) {
            prop_assert_eq!(super::base64::encode(&bytes), text);
        }
    }

    #[test]
    fn a_terminal_gets_no_control_characters(message in message()) {
        let mut out = Vec::new();
        Encoder::new(Framing::Line, true).message(0, &message, &mut out);
        prop_assert_eq!(out.pop(), Some(b'\n'));
        let text = String::from_utf8(out).unwrap();
        prop_assert!(!text.contains(char::is_control));
    }
}
