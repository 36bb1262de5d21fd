//! What a fault does at a hook, as its doc comment says it: a sentence for what happens by itself, and
//! the words that `on-error` may say.

/// A row: what `on-error` says, and what follows then.
pub(super) type Row = (&'static str, String);

/// What each word of `on-error` means, wherever it is allowed.
const REMEDIES: [(&str, &str); 4] = [
    ("open", "as if the plugin had no objection; the next one is asked"),
    ("closed", "refused for good"),
    ("disconnect", "refused for now, and the connection is closed"),
    ("quarantine", "the message is taken, and held until an operator releases it"),
];

/// The paragraph about faults, as rows. Nothing when the hook says nothing of them.
pub(super) fn rows(docs: &str) -> Option<Vec<Row>> {
    let paragraph = docs.split("\n\n").find_map(|paragraph| {
        let sentence = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        let from = sentence.find("A fault ")?;
        Some(sentence[from..].to_owned())
    })?;
    let (usual, choices) = match paragraph.split_once("; `on-error") {
        Some((usual, choices)) => (usual, choices.split(", never").next().unwrap_or(choices)),
        None => (paragraph.trim_end_matches('.'), ""),
    };
    let usual = usual.trim_start_matches("A fault ").trim_start_matches("is answered by ");
    let mut rows = vec![("`tempfail`, or nothing", capital(usual))];
    for (word, meaning) in REMEDIES {
        let spelt = [format!("`{word}`"), format!("\"{word}\"")];
        let Some(at) = spelt.iter().find_map(|spelt| Some(choices.find(spelt)? + spelt.len()))
        else {
            continue;
        };
        rows.push((word, meaning_with_code(meaning, &choices[at..])));
    }
    Some(rows)
}

/// `closed (554)`: the code that stands behind the word. ``= "open"` sends the copy``: what it says.
fn meaning_with_code(meaning: &str, rest: &str) -> String {
    if let Some(code) = rest.strip_prefix(" (").and_then(|rest| rest.split(')').next()) {
        return format!("{meaning}: {code}");
    }
    match rest.strip_prefix("` ") {
        Some(words) => words.trim_end_matches('.').to_owned(),
        None => meaning.to_owned(),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_doc_comments_say() {
        let words = |docs| {
            let rows = rows(docs).unwrap();
            rows.into_iter().map(|(word, text)| format!("{word}: {text}")).collect::<Vec<_>>()
        };
        let docs = "Called.\n\nA fault is answered by 454 4.7.0; `on-error` may say `closed`\n(535), \
             never `open`.";
        assert_eq!(
            words(docs),
            ["`tempfail`, or nothing: 454 4.7.0", "closed: refused for good: 535"]
        );
        let docs = "A fault postpones the attempt; `on-error = \"open\"` sends the copy as it is.";
        assert_eq!(words(docs)[1], "open: sends the copy as it is");
        assert_eq!(words("A fault is counted.").len(), 1);
        assert_eq!(rows("Called."), None);
    }
}
