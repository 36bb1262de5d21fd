//! XCLIENT: a trusted peer says for whom it speaks, as Postfix defines it (XCLIENT_README).

use std::net::{IpAddr, Ipv6Addr};

use crate::{Reply, command};

/// 550 5.7.0
const NOT_ALLOWED: Reply = Reply::fixed(550, (5, 7, 0), "LOGIN is not for this peer to say");

/// What XCLIENT said. Each attribute is given once or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Xclient {
    /// ADDR: the client's address.
    pub address: Told<IpAddr>,
    /// PORT: the client's port.
    pub port: Told<u16>,
    /// NAME: the client's host name, which the peer looked up; printable ASCII.
    pub name: Told<String>,
    /// PROTO: true for ESMTP, false for SMTP.
    pub esmtp: Told<bool>,
    /// HELO: what the client greeted the peer with; printable ASCII.
    pub helo: Told<String>,
    /// LOGIN: as whom the client logged in there.
    pub login: Told<String>,
    /// DESTADDR: where the client connected.
    pub to_address: Told<IpAddr>,
    /// DESTPORT: the port there.
    pub to_port: Told<u16>,
}

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Told<T> {
    /// Nothing was said of it: it stays as it is.
    #[default]
    Unsaid,
    /// The peer does not know, for good (`[UNAVAILABLE]`) or now (`[TEMPUNAVAIL]`).
    Unknown,
    /// It is this.
    Is(T),
}

impl<T> Told<T> {
    /// The value, when it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Told::Is(value) => Some(value),
            Told::Unsaid | Told::Unknown => None,
        }
    }
}

/// What EHLO says of it.
pub(crate) fn keyword(login: bool) -> String {
    let names = "XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT";
    if login { format!("{names} LOGIN") } else { names.to_owned() }
}

/// Reads `NAME=value …`; `login` says whether LOGIN is allowed.
pub(crate) fn parse(args: &str, login: bool) -> Result<Xclient, Reply> {
    let mut told = Xclient::default();
    for word in args.split_ascii_whitespace() {
        let (name, value) = word.split_once('=').ok_or(Reply::BAD_ARGUMENTS)?;
        let value = decoded(value)?;
        match name.to_ascii_uppercase().as_str() {
            "ADDR" => set(&mut told.address, &value, address),
            "PORT" => set(&mut told.port, &value, number),
            "NAME" => set(&mut told.name, &value, printable),
            "PROTO" => set(&mut told.esmtp, &value, protocol),
            "HELO" => set(&mut told.helo, &value, printable),
            "LOGIN" if !login => Err(NOT_ALLOWED),
            "LOGIN" => set(&mut told.login, &value, user),
            "DESTADDR" => set(&mut told.to_address, &value, address),
            "DESTPORT" => set(&mut told.to_port, &value, number),
            _ => Err(Reply::BAD_ARGUMENTS),
        }?;
    }
    Ok(told)
}

fn set<T>(
    attribute: &mut Told<T>,
    value: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<(), Reply> {
    if !matches!(attribute, Told::Unsaid) {
        return Err(Reply::BAD_ARGUMENTS);
    }
    let unknown = ["[UNAVAILABLE]", "[TEMPUNAVAIL]"];
    *attribute = if unknown.iter().any(|word| word.eq_ignore_ascii_case(value)) {
        Told::Unknown
    } else {
        Told::Is(read(value).ok_or(Reply::BAD_ARGUMENTS)?)
    };
    Ok(())
}

/// IPv4 as it is; IPv6 as in an address literal (RFC 5321 §4.1.3), or bare.
fn address(value: &str) -> Option<IpAddr> {
    let v6 = value.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    match v6 {
        Some(_) => value[5..].parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => value.parse().ok(),
    }
    .map(|ip: IpAddr| ip.to_canonical())
}

fn number(value: &str) -> Option<u16> {
    value.bytes().all(|b| b.is_ascii_digit()).then(|| value.parse().ok()).flatten()
}

fn protocol(value: &str) -> Option<bool> {
    match value.to_ascii_uppercase().as_str() {
        "ESMTP" => Some(true),
        "SMTP" => Some(false),
        _ => None,
    }
}

fn printable(value: &str) -> Option<String> {
    command::parse_name(value).ok()
}

fn user(value: &str) -> Option<String> {
    let legal = (1..=255).contains(&value.len()) && !value.chars().any(char::is_control);
    legal.then(|| value.to_owned())
}

/// xtext (RFC 3461 §4): `+` and two hexadecimal digits stand for an octet.
fn decoded(value: &str) -> Result<String, Reply> {
    let mut octets = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        octets.push(match byte {
            b'+' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = digit().zip(digit()).ok_or(Reply::BAD_ARGUMENTS)?;
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(octets).map_err(|_| Reply::BAD_ARGUMENTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_in_any_order_and_case() {
        let text = "name=mx+2Eclient.example ADDR=192.0.2.7 PORT=4711 PROTO=esmtp \
            HELO=[unavailable] LOGIN=anna+40example.org DESTADDR=IPV6:2001:db8::1 DESTPORT=25";
        let told = parse(text, true).unwrap();
        assert_eq!(told.name, Told::Is("mx.client.example".into()));
        assert_eq!(told.address, Told::Is("192.0.2.7".parse().unwrap()));
        assert_eq!((told.port, told.esmtp), (Told::Is(4711), Told::Is(true)));
        assert_eq!(told.helo, Told::Unknown);
        assert_eq!(told.login, Told::Is("anna@example.org".into()));
        assert_eq!(told.to_address, Told::Is("2001:db8::1".parse().unwrap()));
        assert_eq!(told.to_port, Told::Is(25));
        let told = parse("NAME=[TempUnavail] ADDR=IPv6:::ffff:192.0.2.7", false).unwrap();
        assert_eq!((told.name, told.login), (Told::Unknown, Told::Unsaid));
        assert_eq!(told.address, Told::Is("192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "ADDR",
            "ADDR=",
            "ADDR=client",
            "ADDR=IPV6:192.0.2.1",
            "ADDR=192.0.2.1 ADDR=192.0.2.1",
            "PORT=65536",
            "PORT=+2B1",
            "PORT=",
            "PROTO=LMTP",
            "NAME=a+20b",
            "NAME=",
            "NAME=+0",
            "NAME=+FF",
            "HELO=a+0D+0Ab",
            "LOGIN=a+00",
            "COLOUR=red",
            "=",
            "ADDR=192.0.2.1=",
        ] {
            assert_eq!(parse(text, true), Err(Reply::BAD_ARGUMENTS), "{text}");
        }
        assert_eq!(parse("LOGIN=anna", false), Err(NOT_ALLOWED));
        assert_eq!(parse("LOGIN=[UNAVAILABLE]", false), Err(NOT_ALLOWED));
    }
}
