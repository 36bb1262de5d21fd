//! Where a domain wants reports about TLS towards it (RFC 8460 §3). Nothing here asks DNS.

use percent_encoding::percent_decode_str;
use waypost_smtp::Mailbox;

/// Most places of one domain.
const MAX_PLACES: usize = 4;

/// Where a report goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReportTo {
    /// By mail.
    Mail(Mailbox),
    /// By HTTPS, to this URL.
    Web(String),
}

/// What the TXT records at `_smtp._tls.DOMAIN` ask for; nothing unless exactly one is such a record.
pub fn report_to(records: &[String]) -> Vec<ReportTo> {
    let mut candidates = records.iter().filter(|record| is_request(record));
    let (Some(record), None) = (candidates.next(), candidates.next()) else { return Vec::new() };
    let fields = record.split(';').filter_map(|field| field.split_once('='));
    let places = fields.filter(|(name, _)| name.trim() == "rua").map(|(_, value)| value);
    places.flat_map(|value| value.split(',')).filter_map(place).take(MAX_PLACES).collect()
}

fn is_request(record: &str) -> bool {
    let version = record.split(';').next().unwrap_or_default();
    let pair = version.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
    pair == Some(("v", "TLSRPTv1")) && record.contains(';')
}

fn place(uri: &str) -> Option<ReportTo> {
    let uri = uri.trim();
    let (scheme, rest) = uri.split_once(':')?;
    if scheme.eq_ignore_ascii_case("https") && rest.starts_with("//") {
        let legal = uri.len() <= 1024 && uri.bytes().all(|b| b.is_ascii_graphic());
        return legal.then(|| ReportTo::Web(uri.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("mailto") {
        return None;
    }
    let address = rest.split('?').next()?;
    let address = percent_decode_str(address).decode_utf8().ok()?;
    Some(ReportTo::Mail(Mailbox::parse(&address).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(records: &[&str]) -> Vec<String> {
        let records: Vec<String> = records.iter().map(|&record| record.to_owned()).collect();
        let show = |place: &ReportTo| match place {
            ReportTo::Mail(mailbox) => mailbox.to_string(),
            ReportTo::Web(url) => url.clone(),
        };
        report_to(&records).iter().map(show).collect()
    }

    #[test]
    fn places_are_addresses_and_urls() {
        assert_eq!(places(&["v=TLSRPTv1;rua=mailto:reports@example.com"]), ["reports@example.com"]);
        assert_eq!(
            places(&[
                "spf",
                "v=TLSRPTv1; rua=https://r.example/v1?x=1,mailto:a%2Bb@example.com?x=y;"
            ]),
            ["https://r.example/v1?x=1", "a+b@example.com"]
        );
        let many = format!("v=TLSRPTv1; rua={}", "mailto:a@b.example,".repeat(9));
        assert_eq!(places(&[&many]).len(), MAX_PLACES);
    }

    #[test]
    fn what_is_no_request_asks_for_nothing() {
        for none in [
            &[][..],
            &["v=TLSRPTv1"],
            &["v=TLSRPTv2; rua=mailto:a@example.com"],
            &["rua=mailto:a@example.com; v=TLSRPTv1;"],
            &["v=TLSRPTv1; rua=http://r.example/"],
            &["v=TLSRPTv1; rua=mailto:nobody"],
            &["v=TLSRPTv1; rua=https://r.example/\u{7f}"],
            &["v=TLSRPTv1; rua=mailto:a@b.example", "v=TLSRPTv1; rua=mailto:c@b.example"],
        ] {
            assert_eq!(places(none), [""; 0], "{none:?}");
        }
    }
}
