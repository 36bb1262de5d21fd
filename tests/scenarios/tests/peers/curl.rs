//! curl at the door for HTTP. Every answer is held against the document that describes the door.

use serde_json::{Value, json};
use waypost_scenarios::{Door, Running};

use crate::program::run;

pub(crate) const RAW: &str =
    "From: a@shop.example\nTo: b@dest.example\nBcc: c@dest.example\nSubject: hi\n\nHello\n.\n";

/// A client that knows where the door is and has a token.
pub(crate) struct Curl {
    pub(crate) base: Vec<String>,
    pub(crate) url: String,
    pub(crate) document: Value,
}

/// An answer: status, whether it was given before, and what it says.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) replayed: bool,
    /// When to try again, in seconds.
    pub(crate) again: Option<u64>,
    pub(crate) body: Value,
}

impl Curl {
    pub(crate) async fn to(relay: &Running, token: &str) -> Curl {
        let url = format!("http://{}", relay.address(Door::Http));
        Curl::at(url, vec!["-H".to_owned(), format!("Authorization: Bearer {token}")]).await
    }

    pub(crate) async fn at(url: String, base: Vec<String>) -> Curl {
        let mut curl = Curl { base, url, document: json!(null) };
        let (_, _, text) = curl.call("/v1/openapi.json", &[], "").await;
        curl.document = serde_json::from_str(&text).unwrap();
        curl
    }

    pub(crate) async fn call(
        &self,
        path: &str,
        options: &[&str],
        input: &str,
    ) -> (u64, String, String) {
        let url = format!("{}{path}", self.url);
        let mut arguments =
            vec!["--silent", "--show-error", "--max-time", "30", "--include", "--url", &url];
        arguments.extend(self.base.iter().map(String::as_str));
        arguments.extend(options);
        let ended = run("curl", "curl", &arguments, input).await;
        assert!(ended.success, "{}", ended.said);
        let said = ended.said.replace("HTTP/1.1 100 Continue\r\n\r\n", "");
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    /// Posts a body, and holds the answer against the document.
    pub(crate) async fn post(&self, query: &str, kind: &str, more: &[&str], input: &str) -> Answer {
        let kind = format!("Content-Type: {kind}");
        let options = [&["--data-binary", "@-", "-H", kind.as_str()], more].concat();
        let (status, head, body) =
            self.call(&format!("/v1/messages{query}"), &options, input).await;
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{head}\n{body}"));
        let responses = &self.document["paths"]["/v1/messages"]["post"]["responses"];
        let response = resolved(&self.document, &responses[status.to_string()]);
        let contents = response["content"]
            .as_object()
            .unwrap_or_else(|| panic!("{status} is not in the document"));
        let (media, content) = contents.iter().next().unwrap();
        assert!(head.contains(&format!("content-type: {media}")), "{head}");
        fits(&self.document, &content["schema"], &body);
        let again = head.lines().find_map(|line| line.strip_prefix("retry-after: "));
        let again = again.map(|seconds| seconds.parse().unwrap());
        Answer { status, replayed: head.contains("idempotency-replayed: true"), again, body }
    }

    pub(crate) async fn raw(&self, query: &str, more: &[&str]) -> Answer {
        self.post(query, "message/rfc822", more, RAW).await
    }

    pub(crate) async fn json(&self, letter: &Value, more: &[&str]) -> Answer {
        self.post("", "application/json", more, &letter.to_string()).await
    }
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(place) => document.pointer(place.strip_prefix('#').unwrap()).unwrap(),
        None => value,
    }
}

/// As much of JSON Schema as the answers' schemas use.
fn fits(document: &Value, schema: &Value, value: &Value) {
    let schema = resolved(document, schema);
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{value} is none of {words:?}");
    }
    match schema["type"].as_str() {
        Some("object") => {
            let there = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
            let known = schema["properties"].as_object().unwrap();
            for name in schema["required"].as_array().unwrap() {
                assert!(there.contains_key(name.as_str().unwrap()), "{name} is missing in {value}");
            }
            for (name, value) in there {
                fits(
                    document,
                    known.get(name).unwrap_or_else(|| panic!("'{name}' is not in the document")),
                    value,
                );
            }
        }
        Some("array") => {
            let all = value.as_array().unwrap_or_else(|| panic!("{value} is no array"));
            all.iter().for_each(|value| fits(document, &schema["items"], value));
        }
        Some("string") => assert!(value.is_string(), "{value} is no string"),
        Some("integer") => assert!(value.is_u64(), "{value} is no number"),
        _ => {}
    }
}
