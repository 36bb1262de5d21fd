//! A day of one domain as a report: JSON, and a mail around it (RFC 8460 §4.4, §5).

use std::io::{self, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use waypost_mail::Timestamp;
use waypost_smtp::Mailbox;

use super::ReportsConfig;
use super::tally::{Applied, Counted, PolicyTally, Tally};

const DAY: u64 = 86_400_000;
/// Octets of base64 in a line (RFC 2045 §6.8).
const LINE: usize = 76;

/// Which day of which domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct About {
    /// Days since 1970, in UTC.
    pub(super) day: u64,
    pub(super) domain: String,
}

impl About {
    pub(super) fn day_of(now: Timestamp) -> u64 {
        now.0 / DAY
    }

    fn start(&self) -> Timestamp {
        Timestamp(self.day * DAY)
    }

    /// The last second of the day.
    fn end(&self) -> Timestamp {
        Timestamp((self.day + 1) * DAY - 1000)
    }

    /// When it is over.
    pub(super) fn over(&self) -> Timestamp {
        self.start().after(Duration::from_millis(DAY))
    }

    /// Unique for each relay, domain and day.
    pub(super) fn id(&self, config: &ReportsConfig) -> String {
        let date = self.start().to_string();
        format!("{}.{}@{}", &date[..10], self.domain, config.submitter)
    }
}

/// The report, compressed.
pub(super) fn compressed(
    config: &ReportsConfig,
    about: &About,
    tally: &Tally,
) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(json_of(config, about, tally).to_string().as_bytes())?;
    encoder.finish()
}

fn json_of(config: &ReportsConfig, about: &About, tally: &Tally) -> Value {
    let policies: Vec<Value> =
        tally.policies.iter().map(|policy| policy_of(&about.domain, policy)).collect();
    json!({
        "organization-name": config.organization,
        "date-range": {
            "start-datetime": seconds(about.start()),
            "end-datetime": seconds(about.end()),
        },
        "contact-info": config.contact,
        "report-id": about.id(config),
        "policies": policies,
    })
}

fn policy_of(domain: &str, tally: &PolicyTally) -> Value {
    let mut policy = match &tally.applied {
        Applied::None => json!({ "policy-type": "no-policy-found" }),
        Applied::Sts(lines, hosts) => {
            json!({ "policy-type": "sts", "policy-string": lines, "mx-host": hosts })
        }
        Applied::Tlsa(records) => json!({ "policy-type": "tlsa", "policy-string": records }),
    };
    policy["policy-domain"] = domain.into();
    let failures: Vec<Value> = tally.failures.iter().map(failure_of).collect();
    json!({
        "policy": policy,
        "summary": {
            "total-successful-session-count": tally.good,
            "total-failure-session-count": tally.bad,
        },
        "failure-details": failures,
    })
}

fn failure_of(counted: &Counted) -> Value {
    let mut value = json!({
        "result-type": counted.failure.kind,
        "receiving-mx-hostname": counted.host,
        "receiving-ip": counted.address,
        "failed-session-count": counted.count,
    });
    if let Some(from) = counted.from {
        value["sending-mta-ip"] = json!(from);
    }
    if let Some(reason) = &counted.failure.reason {
        value["failure-reason-code"] = reason.as_str().into();
    }
    value
}

/// RFC 3339 without fractions.
fn seconds(at: Timestamp) -> String {
    format!("{}Z", &at.to_string()[..19])
}

/// RFC 8460 §5.1
fn file_name(config: &ReportsConfig, about: &About) -> String {
    let (start, end) = (about.start().0 / 1000, about.end().0 / 1000);
    format!("{}!{}!{start}!{end}!{}.json.gz", config.submitter, about.domain, about.day)
}

/// The header and the body of a mail with a report (RFC 8460 §5.3).
pub(super) fn mail(
    config: &ReportsConfig,
    about: &About,
    to: &Mailbox,
    report: &[u8],
    now: Timestamp,
) -> (String, String) {
    let (id, domain) = (about.id(config), &about.domain);
    // It cannot be in base64, and in the other part it is ours to avoid.
    let boundary = "=_tls-report";
    let header = format!(
        "Date: {date}\r\nFrom: <{from}>\r\nTo: <{to}>\r\n\
         Subject: Report Domain: {domain}\r\n Submitter: {submitter}\r\n Report-ID: <{id}>\r\n\
         Message-ID: <{id}>\r\n\
         TLS-Report-Domain: {domain}\r\nTLS-Report-Submitter: {submitter}\r\n\
         TLS-Required: No\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n boundary=\"{boundary}\"\r\n",
        date = now.rfc5322(),
        from = config.from,
        submitter = config.submitter,
    );
    let body = format!(
        "\r\n--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
         This is a report about TLS in mail to {domain} on {day},\r\n\
         by {submitter}. It is meant for programs.\r\n\r\n\
         --{boundary}\r\nContent-Type: application/tlsrpt+gzip\r\n\
         Content-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment;\r\n filename=\"{file}\"\r\n\r\n{encoded}\
         --{boundary}--\r\n",
        day = &about.start().to_string()[..10],
        submitter = config.submitter,
        file = file_name(config, about),
        encoded = lines(report),
    );
    (header, body)
}

fn lines(octets: &[u8]) -> String {
    let text = STANDARD.encode(octets);
    let mut lines = String::with_capacity(text.len() + text.len() / LINE * 2 + 2);
    for line in text.as_bytes().chunks(LINE) {
        lines.extend(line.iter().map(|octet| char::from(*octet)));
        lines.push_str("\r\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use waypost_dns::sts::Policy;

    use super::*;
    use crate::reports::tally::{Failure, FailureKind, Session};

    fn config() -> ReportsConfig {
        ReportsConfig {
            organization: "Relay Ltd".into(),
            from: Mailbox::parse("reports@relay.example").unwrap(),
            contact: "postmaster@relay.example".into(),
            submitter: "relay.example".into(),
            sign: None,
        }
    }

    fn about() -> About {
        About { day: 16_892, domain: "there.example".into() }
    }

    fn tally() -> Tally {
        let policy = "version: STSv1\nmode: enforce\nmx: *.there.example\nmax_age: 86400\n";
        let applied = Applied::sts(&Policy::parse(policy.as_bytes()).unwrap());
        let mut tally = Tally::default();
        let failure = Failure::new(FailureKind::CertificateExpired, "it ended on Sunday");
        for failure in [None, Some(failure)] {
            tally.add(Session {
                applied: applied.clone(),
                host: "mx.there.example".into(),
                address: "192.0.2.1".parse().unwrap(),
                from: Some("2001:db8::1".parse().unwrap()),
                failure,
            });
        }
        tally
    }

    #[test]
    fn the_report_is_as_the_standard_has_it() {
        let packed = compressed(&config(), &about(), &tally()).unwrap();
        let mut text = String::new();
        GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            json!({
                "organization-name": "Relay Ltd",
                "date-range": {
                    "start-datetime": "2016-04-01T00:00:00Z",
                    "end-datetime": "2016-04-01T23:59:59Z",
                },
                "contact-info": "postmaster@relay.example",
                "report-id": "2016-04-01.there.example@relay.example",
                "policies": [{
                    "policy": {
                        "policy-type": "sts",
                        "policy-string": [
                            "version: STSv1", "mode: enforce", "max_age: 86400", "mx: *.there.example",
                        ],
                        "policy-domain": "there.example",
                        "mx-host": ["*.there.example"],
                    },
                    "summary": {
                        "total-successful-session-count": 1,
                        "total-failure-session-count": 1,
                    },
                    "failure-details": [{
                        "result-type": "certificate-expired",
                        "sending-mta-ip": "2001:db8::1",
                        "receiving-mx-hostname": "mx.there.example",
                        "receiving-ip": "192.0.2.1",
                        "failed-session-count": 1,
                        "failure-reason-code": "it ended on Sunday",
                    }],
                }],
            })
        );
    }

    #[test]
    fn the_mail_around_it_says_what_it_is() {
        let to = Mailbox::parse("tls@there.example").unwrap();
        let (header, body) =
            mail(&config(), &about(), &to, &[7; 200], Timestamp(1_459_555_200_000));
        for line in [
            "From: <reports@relay.example>\r\n",
            "To: <tls@there.example>\r\n",
            "TLS-Report-Domain: there.example\r\n",
            "TLS-Report-Submitter: relay.example\r\n",
            "TLS-Required: No\r\n",
            "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n",
            "Subject: Report Domain: there.example\r\n Submitter: relay.example\r\n Report-ID: <2016-04-01.there.example@relay.example>\r\n",
        ] {
            assert!(header.contains(line), "{line}: {header}");
        }
        assert!(header.ends_with("\r\n") && !header.contains("\r\n\r\n"));
        assert!(body.contains("Content-Type: application/tlsrpt+gzip\r\n"));
        assert!(
            body.contains(
                "filename=\"relay.example!there.example!1459468800!1459555199!16892.json.gz\""
            ),
            "{body}"
        );
        assert!(body.lines().all(|line| line.len() <= 78), "{body}");
    }
}
