//! Text of strangers as it may be shown: on one line, and without what steers a terminal or a reader.

/// True of characters that are no text but orders to what shows it: controls (C0 and C1), ends of lines
/// and paragraphs, and marks that turn the direction of writing, by which a text can show what it does not
/// say.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with a space in the place of each of them.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if steers(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_steers() {
        assert_eq!(plain("a\x1b[31m\u{9b}b\r\nc\0"), "a [31m b  c ");
        assert_eq!(plain("gpj.\u{202e}exe\u{2069} \u{2028}x\u{200f}"), "gpj. exe   x ");
        for text in
            ["gr\u{fc}n \u{4f60}", "\u{645}\u{6cc}\u{200c}\u{62e}", "\u{1f468}\u{200d}\u{1f469}"]
        {
            assert_eq!(plain(text), text, "letters and what joins them stay");
        }
    }
}
