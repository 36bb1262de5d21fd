//! What a notice tells, read as a program would.

use std::collections::BTreeMap;

/// What a notice says became of each recipient: the address, and the word of RFC 3464 §2.3.3.
pub fn told(content: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(content);
    let mut about = None;
    let mut told = BTreeMap::new();
    for line in text.lines() {
        if let Some(address) = line.strip_prefix("Final-Recipient: rfc822;") {
            about = Some(address.trim().to_owned());
        } else if let Some(action) = line.strip_prefix("Action: ")
            && let Some(address) = about.take()
        {
            told.insert(address, action.trim().to_owned());
        }
    }
    told
}
