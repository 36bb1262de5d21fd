use std::time::Duration;

use serde::Deserialize;
use waypost_sdk::http::Request;
use waypost_sdk::prelude::*;

/// Its own section of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alarm {
    url: String,
}

impl Plugin for Alarm {
    type Config = Alarm;

    fn new(config: Alarm) -> Result<Alarm, String> {
        Ok(config)
    }

    fn interest(&self) -> Interest {
        Interest::default().timer("report", Duration::from_secs(60))
    }
}

impl OnTimer for Alarm {
    /// Grants: `kv = { bounces = "rw" }` and `http` for the address.
    fn on_timer(&self, _: &CallInfo, _: &str) -> Decision<()> {
        let bounces = kv::add("bounces", "count", 0, None)?;
        if bounces == 0 {
            return Ok(());
        }
        let request = Request {
            method: "POST".to_owned(),
            url: self.url.clone(),
            headers: Vec::new(),
            body: format!("{bounces} bounces").into_bytes(),
            timeout_ms: 5000,
        };
        let response = http::send(&request)?;
        if response.status != 200 {
            return Err(format!("{} says {}", self.url, response.status).into());
        }
        kv::add("bounces", "count", -bounces, None)?;
        Ok(())
    }
}

waypost_sdk::export!(Alarm: timer);

#[test]
fn what_was_reported_is_not_reported_again() {
    use waypost_sdk::testing::{Host, call};
    let plugin = Alarm { url: "https://ops.example/hook".to_owned() };
    let host = Host::new().kv("bounces").http(&plugin.url, 200, b"");
    host.run(|| {
        kv::add("bounces", "count", 3, None).unwrap();
        plugin.on_timer(&call(), "report").unwrap();
        assert_eq!(kv::add("bounces", "count", 0, None), Ok(0));
    });
    let down = Host::new().kv("bounces").http(&plugin.url, 503, b"");
    down.run(|| {
        kv::add("bounces", "count", 3, None).unwrap();
        assert!(plugin.on_timer(&call(), "report").is_err());
    });
}
