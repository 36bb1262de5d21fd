//! What a server said, made comparable.

use std::net::IpAddr;

use waypost_sdk::types::RemoteReply;

/// A text of a reply in lower case, with addresses, numbers and ids replaced, so that the same reply
/// to two messages reads the same.
pub(crate) fn normal<S: AsRef<str>>(lines: &[S]) -> String {
    let mut text = String::with_capacity(lines.iter().map(|line| line.as_ref().len() + 1).sum());
    for line in lines {
        for (at, word) in line.as_ref().split_ascii_whitespace().enumerate() {
            if at == 0 && is_status(word) {
                continue;
            }
            if !text.is_empty() {
                text.push(' ');
            }
            push_word(&mut text, word);
        }
    }
    text
}

fn push_word(text: &mut String, word: &str) {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if word.contains('@') {
        text.push('@');
    } else if is_number(bare) || bare.parse::<IpAddr>().is_ok() || is_id(bare) {
        text.push('#');
    } else {
        text.extend(word.chars().map(|c| c.to_ascii_lowercase()));
    }
}

/// An enhanced status, such as stands at the start of each line.
fn is_status(word: &str) -> bool {
    let mut parts = word.split('.');
    let class = parts.next().is_some_and(|class| matches!(class, "2" | "4" | "5"));
    class && parts.clone().count() == 2 && parts.all(|part| part.parse::<u16>().is_ok())
}

fn is_number(word: &str) -> bool {
    let number = |c: u8| c.is_ascii_digit() || matches!(c, b'.' | b',' | b':' | b'/' | b'-' | b'%');
    word.bytes().any(|c| c.is_ascii_digit()) && word.bytes().all(number)
}

/// Long and mixed: the id of a message or a session. Names of hosts and addresses of pages are words.
fn is_id(word: &str) -> bool {
    word.len() >= 12
        && word.bytes().any(|c| c.is_ascii_digit())
        && word.bytes().any(|c| c.is_ascii_alphabetic())
        && word.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'='))
}

/// Reads a sample such as `421 4.7.0 Try again later`.
pub(crate) fn sample(text: &str) -> Option<RemoteReply> {
    let (code, rest) = text.split_once(' ')?;
    let code = code.parse().ok().filter(|code| (200..600).contains(code))?;
    let first = rest.split(' ').next()?;
    let enhanced = is_status(first).then(|| {
        let parts: Vec<u16> = first.split('.').filter_map(|part| part.parse().ok()).collect();
        (parts[0] as u8, parts[1], parts[2])
    });
    let lines = rest.split('\n').map(str::to_owned).collect();
    Some(RemoteReply { code, enhanced, lines })
}

#[cfg(test)]
mod tests {
    use super::{normal, sample};

    #[test]
    fn the_same_reply_to_two_messages_reads_the_same() {
        let one = normal(&[
            "4.7.28 [192.0.2.1   15] Unusual RATE for <a@b.example>",
            "4.7.28 (5/7) a1b2c3d4e5f6-7si - gsmtp",
        ]);
        let two = normal(&[
            "4.7.28 [2001:db8::1 19] Unusual rate for <c@d.example>",
            "4.7.28 (1/9) zz99-8877665544si - gsmtp",
        ]);
        assert_eq!(one, two);
        assert_eq!(one, "# # unusual rate for @ # # - gsmtp");
    }

    #[test]
    fn codes_of_providers_are_words() {
        assert_eq!(
            normal(&["[TSS04] OFR004_104 (S2017062302) RL000010 4.16.55.1;"]),
            "[tss04] ofr004_104 (s2017062302) rl000010 #"
        );
    }

    #[test]
    fn samples_are_replies() {
        let reply = sample("421 4.7.0 a\nb").unwrap();
        assert_eq!((reply.code, reply.enhanced, reply.lines.len()), (421, Some((4, 7, 0)), 2));
        assert_eq!(sample("550 no").unwrap().enhanced, None);
        assert!(sample("99 x").is_none() && sample("421").is_none());
    }
}
