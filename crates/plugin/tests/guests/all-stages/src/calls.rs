//! Calls of the host, as the configuration writes them: `["kv.get", "namespace", "key"]`.

use std::time::Duration;

use serde_json::Value;
use waypost_sdk::prelude::*;
use waypost_sdk::types::Reason;

struct Arguments<'a>(&'a [Value]);

impl Arguments<'_> {
    fn text(&self, at: usize) -> &str {
        self.0.get(at).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, at: usize) -> u64 {
        self.0.get(at).and_then(Value::as_u64).unwrap_or_default()
    }

    fn signed(&self, at: usize) -> i64 {
        self.0.get(at).and_then(Value::as_i64).unwrap_or_default()
    }

    fn option(&self, at: usize) -> Option<&str> {
        self.0.get(at).and_then(Value::as_str)
    }

    fn ttl(&self, at: usize) -> Option<Duration> {
        self.0.get(at).and_then(Value::as_u64).map(Duration::from_secs)
    }

    fn small(&self, at: usize) -> u32 {
        u32::try_from(self.number(at)).unwrap_or(u32::MAX)
    }
}

/// Makes the call; the reason is named by the function and says what came of it.
pub(crate) fn made(call: &[Value]) -> Reason {
    let name = call.first().and_then(Value::as_str).unwrap_or_default();
    let said = answer(name, &Arguments(call.get(1..).unwrap_or_default()));
    // A reason is printable and has an end.
    let said: String =
        said.chars().map(|c| if c.is_control() { '·' } else { c }).take(200).collect();
    because(name, said)
}

fn octets(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn words<T>(answer: Result<T, HostError>, say: impl Fn(T) -> String) -> String {
    match answer {
        Ok(answer) => say(answer),
        Err(HostError::Denied) => "denied".to_owned(),
        Err(HostError::TimedOut) => "timed-out".to_owned(),
        Err(HostError::OverQuota) => "over-quota".to_owned(),
        Err(HostError::Unavailable(text)) => format!("unavailable: {text}"),
        Err(HostError::Invalid(text)) => format!("invalid: {text}"),
    }
}

fn answer(name: &str, a: &Arguments<'_>) -> String {
    match name.split_once('.').unwrap_or_default() {
        ("kv", function) => of_kv(function, a),
        ("tables", function) => of_tables(function, a),
        ("message", function) => of_message(function, a),
        ("dns", function) => of_dns(function, a),
        ("limits", "take") => words(limits::take(a.text(0), a.text(1), a.small(2)), |taken| {
            format!("{} {} {}", taken.allowed, taken.remaining, taken.retry_after_ms)
        }),
        ("http", "send") => of_http(a),
        ("secrets", "hmac-sha256") => {
            words(secrets::hmac_sha256(a.text(0), a.text(1).as_bytes()), |mac| octets(&mac))
        }
        ("secrets", "reveal") => words(secrets::reveal(a.text(0)), |secret| secret),
        ("clock", "now-ms") => clock::now_ms().to_string(),
        ("clock", "elapsed-us") => (clock::elapsed_us() < 1_000_000).to_string(),
        ("random", "bytes") => {
            let (one, other) = (random::bytes(a.small(0)), random::bytes(a.small(0)));
            format!("{} {}", one.len(), one != other)
        }
        ("metrics", "count") => {
            metrics::count(a.text(0), &[Attr::new("kind", a.text(1))], a.number(2));
            String::new()
        }
        ("metrics", "observe") => {
            metrics::observe(
                a.text(0),
                &[],
                a.0.get(1).and_then(Value::as_f64).unwrap_or_default(),
            );
            String::new()
        }
        ("log", level) => of_log(level, a),
        _ => format!("there is no function {name}"),
    }
}

fn of_log(level: &str, a: &Arguments<'_>) -> String {
    let level = match level {
        "trace" => log::Level::Trace,
        "debug" => log::Level::Debug,
        "info" => log::Level::Info,
        "warn" => log::Level::Warn,
        _ => log::Level::Error,
    };
    log::write(level, a.text(0), &[Attr::new("field", a.text(1))]);
    log::enabled(level).to_string()
}

fn of_kv(function: &str, a: &Arguments<'_>) -> String {
    let (space, key) = (a.text(0), a.text(1));
    match function {
        "get" => words(kv::get(space, key), |found| {
            found.map_or("none".to_owned(), |found| String::from_utf8_lossy(&found).into_owned())
        }),
        "set" => words(kv::set(space, key, a.text(2).as_bytes(), a.ttl(3)), |()| "set".to_owned()),
        "remove" => words(kv::remove(space, key), |()| "removed".to_owned()),
        "add" => words(kv::add(space, key, a.signed(2), a.ttl(3)), |sum| sum.to_string()),
        "swap" => {
            let old = a.option(2).map(str::as_bytes);
            let swapped = kv::swap(space, key, old, a.text(3).as_bytes(), a.ttl(4));
            words(swapped, |swapped| swapped.to_string())
        }
        // Values so long as the number says.
        "fill" => {
            let value = vec![b'x'; a.small(2) as usize];
            words(kv::set(space, key, &value, None), |()| "set".to_owned())
        }
        _ => format!("there is no function kv.{function}"),
    }
}

fn of_tables(function: &str, a: &Arguments<'_>) -> String {
    let pair = |found: Option<(String, String)>| {
        found.map_or("none".to_owned(), |(key, value)| format!("{key} {value}"))
    };
    match function {
        "get" => words(tables::get(a.text(0), a.text(1)), |found| format!("{found:?}")),
        "get-many" => {
            let keys: Vec<String> =
                a.0.iter().skip(1).filter_map(Value::as_str).map(str::to_owned).collect();
            words(tables::get_many(a.text(0), &keys), |found| format!("{found:?}"))
        }
        "get-domain" => words(tables::get_domain(a.text(0), a.text(1)), pair),
        "get-ip" => words(tables::get_ip(a.text(0), a.text(1)), pair),
        _ => format!("there is no function tables.{function}"),
    }
}

fn of_message(function: &str, a: &Arguments<'_>) -> String {
    match function {
        "headers-named" => format!("{:?}", fields(&message::headers_named(a.text(0)))),
        "headers" => format!("{:?}", fields(&message::headers())),
        "header-raw" => {
            message::header_raw(a.small(0)).map_or("none".to_owned(), |raw| octets(&raw))
        }
        "body-size" => message::body_size().to_string(),
        "read-body" => octets(&message::read_body(a.number(0), a.small(1))),
        "read-len" => message::read_body(a.number(0), a.small(1)).len().to_string(),
        // The same window so often as the number says; octets in all.
        "read-times" => {
            let times = 0..a.small(2);
            let lens = times.map(|_| message::read_body(a.number(0), a.small(1)).len());
            lens.sum::<usize>().to_string()
        }
        "find" => format!("{:?}", message::find(a.text(0).as_bytes(), a.number(1))),
        "parts" => {
            let parts: Vec<String> = message::parts()
                .iter()
                .map(|p| {
                    format!("{} {:?} {} {} {}", p.index, p.parent, p.media_type, p.offset, p.size)
                })
                .collect();
            parts.join("|")
        }
        "read-part" => {
            let part = message::read_part(a.small(0), a.number(1), a.small(2));
            String::from_utf8_lossy(&part).into_owned()
        }
        _ => format!("there is no function message.{function}"),
    }
}

fn fields(fields: &[Header]) -> Vec<String> {
    fields.iter().map(|h| format!("{} {} {} {}", h.id, h.name, h.value, h.lossy)).collect()
}

fn of_dns(function: &str, a: &Arguments<'_>) -> String {
    let found = |answer: dns::Answer| {
        let records = answer.records.join(",");
        format!("{records} nx {} secure {} ttl {}", answer.nxdomain, answer.secure, answer.ttl_s)
    };
    match function {
        "lookup" => words(dns::lookup(a.text(0), a.text(1)), found),
        // The same question so often as the number says.
        "lookup-many" => {
            let one = (a.text(0).to_owned(), a.text(1).to_owned());
            let questions = vec![one; a.small(2) as usize];
            words(dns::lookup_many(&questions), |all| {
                let well = all.iter().filter(|answer| answer.is_ok()).count();
                format!("{well} of {}", all.len())
            })
        }
        "lookup-mx" => words(dns::lookup_mx(a.text(0)), |hosts| {
            let hosts: Vec<String> =
                hosts.iter().map(|host| format!("{} {}", host.preference, host.exchange)).collect();
            hosts.join(",")
        }),
        _ => format!("there is no function dns.{function}"),
    }
}

fn of_http(a: &Arguments<'_>) -> String {
    let request = http::Request {
        method: a.text(0).to_owned(),
        url: a.text(1).to_owned(),
        headers: vec![Attr::new("x-test", "1")],
        body: a.text(2).as_bytes().to_vec(),
        timeout_ms: 1000,
    };
    words(http::send(&request), |response| {
        let body = String::from_utf8_lossy(&response.body).into_owned();
        format!("{} {} {} {body}", response.status, response.headers.len(), response.truncated)
    })
}
