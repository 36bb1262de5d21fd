//! The functions of the contract, answered by the [`Host`](super::Host) of this thread.

use super::current;

/// Octets that are read at once, at most.
const WINDOW: u32 = 256 * 1024;

fn window(octets: &[u8], offset: u64, len: u32) -> Vec<u8> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(octets.len());
    let end = start.saturating_add(len.min(WINDOW) as usize).min(octets.len());
    octets[start..end].to_vec()
}

pub(crate) mod log {
    use crate::bindings::imports::waypost::policy::log::Level;
    use crate::types::Attr;

    pub(crate) fn enabled(_: Level) -> bool {
        true
    }

    pub(crate) fn log(level: Level, message: &str, fields: &[Attr]) {
        let fields: String = fields.iter().map(|f| format!(" {}={}", f.name, f.value)).collect();
        super::current().lines.borrow_mut().push((level, format!("{message}{fields}")));
    }
}

pub(crate) mod metrics {
    use crate::types::Attr;

    pub(crate) fn count(name: &str, _: &[Attr], by: u64) {
        *super::current().counts.borrow_mut().entry(name.to_owned()).or_default() += by;
    }

    pub(crate) fn observe(name: &str, labels: &[Attr], _: f64) {
        count(name, labels, 1);
    }
}

pub(crate) mod message {
    use super::{current, window};
    use crate::bindings::imports::waypost::policy::message::Part;
    use crate::testing::{mime, text};
    use crate::types::Header;

    pub(crate) fn headers_named(name: &str) -> Vec<Header> {
        let mut headers = current().message.headers();
        headers.retain(|header| header.name.eq_ignore_ascii_case(name));
        headers
    }

    pub(crate) fn headers(start: u32, count: u32) -> Vec<Header> {
        let headers = current().message.headers();
        headers.into_iter().skip(start as usize).take(count.min(256) as usize).collect()
    }

    pub(crate) fn header_raw(id: u32) -> Option<Vec<u8>> {
        current().message.raw(id)
    }

    pub(crate) fn body_size() -> u64 {
        current().message.body.len() as u64
    }

    pub(crate) fn read_body(offset: u64, len: u32) -> Vec<u8> {
        window(&current().message.body, offset, len)
    }

    pub(crate) fn parts() -> Vec<Part> {
        current().parts.clone()
    }

    pub(crate) fn read_part(index: u32, offset: u64, len: u32) -> Vec<u8> {
        window(&mime::decoded(&current().message, index), offset, len)
    }

    pub(crate) fn find(needle: &[u8], start: u64) -> Option<u64> {
        let state = current();
        let start = usize::try_from(start).ok().filter(|&at| at <= state.message.body.len())?;
        text::find(&state.message.body[start..], needle).map(|at| (start + at) as u64)
    }
}

pub(crate) mod tables {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use super::current;
    use crate::types::HostError;

    fn table<T>(
        name: &str,
        look: impl FnOnce(&BTreeMap<String, String>) -> T,
    ) -> Result<T, HostError> {
        current().tables.get(name).map(look).ok_or(HostError::Denied)
    }

    pub(crate) fn get(name: &str, key: &str) -> Result<Option<String>, HostError> {
        table(name, |rows| rows.get(key).cloned())
    }

    pub(crate) fn get_many(name: &str, keys: &[String]) -> Result<Vec<Option<String>>, HostError> {
        table(name, |rows| keys.iter().map(|key| rows.get(key).cloned()).collect())
    }

    pub(crate) fn get_domain(
        name: &str,
        domain: &str,
    ) -> Result<Option<(String, String)>, HostError> {
        let suffixes = || {
            std::iter::successors(Some(domain), |rest| rest.split_once('.').map(|(_, rest)| rest))
        };
        table(name, |rows| suffixes().find_map(|suffix| rows.get_key_value(suffix)).map(own))
    }

    pub(crate) fn get_ip(name: &str, ip: &str) -> Result<Option<(String, String)>, HostError> {
        let ip: IpAddr = ip.parse().map_err(|_| HostError::Invalid("no address".to_owned()))?;
        table(name, |rows| {
            let within = rows.iter().filter(|(net, _)| contains(net, ip));
            within.max_by_key(|(net, _)| prefix(net)).map(own)
        })
    }

    fn own((key, value): (&String, &String)) -> (String, String) {
        (key.clone(), value.clone())
    }

    fn prefix(net: &str) -> u32 {
        net.split_once('/').and_then(|(_, bits)| bits.parse().ok()).unwrap_or(128)
    }

    fn contains(net: &str, ip: IpAddr) -> bool {
        let base = net.split_once('/').map_or(net, |(base, _)| base);
        let shifted = |bits: u128, width: u32| bits.checked_shr(width - prefix(net).min(width));
        match (base.parse(), ip) {
            (Ok(IpAddr::V4(base)), IpAddr::V4(ip)) => {
                let (base, ip) = (u32::from(base).into(), u32::from(ip).into());
                shifted(base, 32) == shifted(ip, 32)
            }
            (Ok(IpAddr::V6(base)), IpAddr::V6(ip)) => {
                shifted(base.into(), 128) == shifted(ip.into(), 128)
            }
            _ => false,
        }
    }
}

pub(crate) mod kv {
    use std::collections::BTreeMap;

    use super::current;
    use crate::types::HostError;

    fn namespace<T>(
        name: &str,
        change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T,
    ) -> Result<T, HostError> {
        current().kv.borrow_mut().get_mut(name).map(change).ok_or(HostError::Denied)
    }

    pub(crate) fn get(name: &str, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        namespace(name, |values| values.get(key).cloned())
    }

    pub(crate) fn set(
        name: &str,
        key: &str,
        value: &[u8],
        _: Option<u32>,
    ) -> Result<(), HostError> {
        namespace(name, |values| drop(values.insert(key.to_owned(), value.to_owned())))
    }

    pub(crate) fn remove(name: &str, key: &str) -> Result<(), HostError> {
        namespace(name, |values| drop(values.remove(key)))
    }

    pub(crate) fn add(name: &str, key: &str, by: i64, _: Option<u32>) -> Result<i64, HostError> {
        namespace(name, |values| {
            let old = values.get(key).and_then(|v| v.as_slice().try_into().ok());
            let new = old.map_or(0, i64::from_le_bytes).saturating_add(by);
            values.insert(key.to_owned(), new.to_le_bytes().to_vec());
            new
        })
    }

    pub(crate) fn swap(
        name: &str,
        key: &str,
        old: Option<&[u8]>,
        new: &[u8],
        _: Option<u32>,
    ) -> Result<bool, HostError> {
        namespace(name, |values| {
            let equal = values.get(key).map(Vec::as_slice) == old;
            if equal {
                values.insert(key.to_owned(), new.to_owned());
            }
            equal
        })
    }
}

pub(crate) mod limits {
    use crate::bindings::imports::waypost::policy::limits::Allowance;
    use crate::types::HostError;

    pub(crate) fn take(bucket: &str, _: &str, _: u32) -> Result<Allowance, HostError> {
        super::current().allowances.get(bucket).cloned().ok_or(HostError::Denied)
    }
}

pub(crate) mod dns {
    use super::current;
    use crate::bindings::imports::waypost::policy::dns::{Answer, MxHost};
    use crate::types::HostError;

    pub(crate) fn lookup(name: &str, kind: &str) -> Result<Answer, HostError> {
        let state = current();
        if !state.dns_granted {
            return Err(HostError::Denied);
        }
        let key = (name.to_owned(), kind.to_owned());
        let absent = || Answer { records: Vec::new(), nxdomain: true, secure: false, ttl_s: 300 };
        Ok(state.records.get(&key).cloned().unwrap_or_else(absent))
    }

    pub(crate) fn lookup_many(
        questions: &[(String, String)],
    ) -> Result<Vec<Result<Answer, HostError>>, HostError> {
        Ok(questions.iter().map(|(name, kind)| lookup(name, kind)).collect())
    }

    pub(crate) fn lookup_mx(domain: &str) -> Result<Vec<MxHost>, HostError> {
        let state = current();
        if !state.dns_granted {
            return Err(HostError::Denied);
        }
        Ok(state.exchangers.get(domain).cloned().unwrap_or_default())
    }
}

pub(crate) mod http {
    use crate::bindings::imports::waypost::policy::http::{Request, Response};
    use crate::types::HostError;

    pub(crate) fn send(request: &Request) -> Result<Response, HostError> {
        super::current().responses.get(&request.url).cloned().ok_or(HostError::Denied)
    }
}

pub(crate) mod secrets {
    use hmac::{Hmac, Mac};
    use sha2::Sha256;

    use crate::types::HostError;

    pub(crate) fn hmac_sha256(name: &str, data: &[u8]) -> Result<Vec<u8>, HostError> {
        let state = super::current();
        let key = state.secrets.get(name).ok_or(HostError::Denied)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(key)
            .map_err(|why| HostError::Invalid(why.to_string()))?;
        mac.update(data);
        Ok(mac.finalize().into_bytes().to_vec())
    }

    pub(crate) fn reveal(name: &str) -> Result<String, HostError> {
        let state = super::current();
        let key = state.secrets.get(name).ok_or(HostError::Denied)?;
        Ok(String::from_utf8_lossy(key).into_owned())
    }
}

pub(crate) mod clock {
    pub(crate) fn now_ms() -> u64 {
        super::current().now_ms
    }

    pub(crate) fn elapsed_us() -> u64 {
        0
    }
}

pub(crate) mod random {
    pub(crate) fn bytes(len: u32) -> Vec<u8> {
        (0..len.min(1024)).map(|i| (i.wrapping_mul(97) % 251) as u8).collect()
    }
}
