//! Selectors of any text at all: never a panic, mistakes within the text, and what was read is read
//! again from what it is shown as.
//!
//! Runs for a second and a half, or for `WAYPOST_FUZZ_SECONDS`.

use std::time::Duration;

use bolero::{TypeGenerator, check};
use waypost_queue::Selector;

fn time() -> Duration {
    let seconds = std::env::var("WAYPOST_FUZZ_SECONDS").ok();
    Duration::from_secs_f64(seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(1.5))
}

/// Pieces of the language, mixed with anything.
#[derive(Debug, Clone, TypeGenerator)]
enum Piece {
    Word(u8),
    Value(u8),
    Number(u32),
    Text(String),
}

const WORDS: [&str; 32] = [
    "id:",
    "sender:",
    "recipient=",
    "domain!=",
    "destination:",
    "state:",
    "age>",
    "age<=",
    "age:",
    "size:",
    "size>=",
    "attempts:",
    "attempts<",
    "tenant:",
    "tag:",
    "listener:",
    "user:",
    "class:",
    "reply:",
    "(",
    ")",
    " ",
    " and ",
    " or ",
    " not ",
    "!",
    ",",
    "..",
    "\"",
    "\\",
    "2h",
    "KiB",
];
const VALUES: [&str; 8] =
    ["held", "*@a.example", "<>", "\"a b\"", "0000000000007", "waiting,done", "1h..2h", "4.7.*"];

impl Piece {
    fn write(&self, text: &mut String) {
        match self {
            Piece::Word(word) => *text += WORDS[usize::from(*word) % WORDS.len()],
            Piece::Value(value) => *text += VALUES[usize::from(*value) % VALUES.len()],
            Piece::Number(number) => *text += &number.to_string(),
            Piece::Text(any) => *text += any,
        }
    }
}

#[test]
fn fuzz_selectors() {
    check!().with_type::<Vec<Piece>>().with_test_time(time()).for_each(|pieces| {
        let mut text = String::new();
        pieces.iter().for_each(|piece| piece.write(&mut text));
        match text.parse::<Selector>() {
            Ok(selector) => {
                let shown = selector.to_string();
                assert_eq!(shown.parse::<Selector>().unwrap(), selector, "{text:?} as {shown:?}");
            }
            Err(error) => {
                let columns = text.chars().count();
                assert!((1..=columns + 1).contains(&error.column), "{text:?}: {error}");
            }
        }
    });
}
