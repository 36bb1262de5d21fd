//! Whose signatures a message carries: a copy that is changed loses them, but for those that this relay
//! made and can make again.

use waypost_mail::header::FieldView;
use waypost_mail::{HeaderBlock, SignRequest};

use crate::name::Place;
use crate::seal::SealRequest;

/// Fields that cover a message's header or body, but for those of ARC.
const SIGNATURES: [&str; 4] =
    ["DKIM-Signature", "DomainKey-Signature", "DKIM2-Signature", "Message-Instance"];
/// The fields of an ARC set (RFC 8617 §4.1).
const SET: [&str; 3] = ["ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"];
/// Signers that are named.
const NAMED: usize = 3;

/// The signatures in a header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vouched {
    /// Ids of the fields that were made for these requests.
    pub own: Vec<u32>,
    /// The newest ARC set, where it is ours.
    pub set: Option<OwnSet>,
    /// Who else signed, each as `DKIM-Signature of example.org`.
    pub others: Vec<String>,
}

/// The newest ARC set of a message, made by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSet {
    /// Ids of its fields.
    pub fields: Vec<u32>,
    /// Its number (`i=`).
    pub instance: u32,
    /// What it says of the chain before it (`cv=`).
    pub(crate) chain: &'static str,
    /// What it says of the message: the field as it is.
    pub(crate) results: Vec<u8>,
}

impl Vouched {
    /// Reads the signatures in `header`. Ours were made for `requests`, in this order and topmost of their
    /// kind; `seal` is who seals.
    ///
    /// Sets of ARC before ours count as nobody's: verifiers look at the seals of all sets, which cover
    /// sets alone, and at the newest signature of the message (RFC 8617 §5.2).
    pub fn of(
        header: &HeaderBlock,
        requests: &[SignRequest],
        seal: Option<&SealRequest>,
    ) -> Vouched {
        let set = seal.and_then(|seal| OwnSet::of(header, seal));
        let mut vouched = Vouched { set, ..Vouched::default() };
        let mut requests = requests.iter();
        let mut next = requests.next();
        for field in header.views() {
            let is = |name: &&str| field.name.eq_ignore_ascii_case(name);
            if is(&SIGNATURES[0]) && next.is_some_and(|request| is_for(request, &field)) {
                vouched.own.push(field.id);
                next = requests.next();
            } else if SIGNATURES.iter().any(is) {
                // What lies below another's was there when the message came.
                next = None;
                vouched.others.push(named(&field));
            } else if vouched.set.is_none() && SET.iter().take(2).any(is) {
                vouched.others.push(named(&field));
            }
        }
        vouched
    }

    /// The ids of all fields that are ours.
    pub fn fields(&self) -> Vec<u32> {
        let set = self.set.iter().flat_map(|set| &set.fields);
        self.own.iter().chain(set).copied().collect()
    }

    /// The others in words, if there are any.
    pub fn told(&self) -> Option<String> {
        let named = self.others.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>();
        match self.others.len() {
            0 => None,
            count if count > NAMED => {
                Some(format!("{} and {} more", named.join(", "), count - NAMED))
            }
            _ => Some(named.join(", ")),
        }
    }
}

impl OwnSet {
    fn of(header: &HeaderBlock, seal: &SealRequest) -> Option<OwnSet> {
        let place = Place::new(&seal.selector, &seal.domain).ok()?;
        let of_set =
            |field: &FieldView<'_>| SET.iter().any(|name| field.name.eq_ignore_ascii_case(name));
        let newest = header.views().filter(of_set).filter_map(|field| instance(&field)).max()?;
        let of_newest = |name: &str| {
            let mut found = header.views().filter(|field| {
                field.name.eq_ignore_ascii_case(name) && instance(field) == Some(newest)
            });
            // Two of a kind make no set.
            found.next().filter(|_| found.next().is_none())
        };
        let [sealed, signed, results] =
            [of_newest(SET[0])?, of_newest(SET[1])?, of_newest(SET[2])?];
        let is_ours = |field: &FieldView<'_>| is_at(&place, field);
        if !is_ours(&sealed) || !is_ours(&signed) {
            return None;
        }
        let chain = match tag(&sealed, "cv")?.as_str() {
            "none" => "none",
            "pass" => "pass",
            "fail" => "fail",
            _ => return None,
        };
        Some(OwnSet {
            fields: vec![sealed.id, signed.id, results.id],
            instance: newest,
            chain,
            results: results.raw.to_vec(),
        })
    }
}

fn is_for(request: &SignRequest, field: &FieldView<'_>) -> bool {
    Place::new(&request.selector, &request.domain).is_ok_and(|place| is_at(&place, field))
}

fn is_at(place: &Place, field: &FieldView<'_>) -> bool {
    let says = |name, wanted: &str| {
        tag(field, name).is_some_and(|found| found.eq_ignore_ascii_case(wanted))
    };
    says("d", &place.domain) && says("s", &place.selector)
}

fn instance(field: &FieldView<'_>) -> Option<u32> {
    tag(field, "i")?.parse().ok()
}

/// The value of a tag, without white space (RFC 6376 §3.2).
fn tag(field: &FieldView<'_>, name: &str) -> Option<String> {
    let value = field.unfolded();
    value.split(';').find_map(|tag| {
        let (found, text) = tag.split_once('=')?;
        (found.trim() == name).then(|| text.split_whitespace().collect())
    })
}

fn named(field: &FieldView<'_>) -> String {
    let domain = tag(field, "d").unwrap_or_else(|| "somebody".to_owned());
    let domain: String = domain.chars().filter(|c| !c.is_control()).take(100).collect();
    format!("{} of {domain}", field.name)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(domain: &str) -> SignRequest {
        SignRequest {
            domain: domain.to_owned(),
            selector: "S1".to_owned(),
            key: "main".to_owned(),
            headers: Vec::new(),
            oversign: Vec::new(),
            expire_after: None,
        }
    }

    fn seal() -> SealRequest {
        SealRequest { key: "k".into(), domain: "relay.example".into(), selector: "arc".into() }
    }

    fn header(text: &str) -> HeaderBlock {
        HeaderBlock::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn ours_are_the_topmost_that_were_asked_for() {
        let header = header(
            "Received: x\r\nDKIM-Signature: v=1; d=a.example;\r\n\ts=s1; b=x\r\n\
             dkim-signature: v=1; d=xn--bcher-kva.example; s=s1\r\n\
             DKIM-Signature: d=other.example; s=x\r\nDKIM-Signature: d=a.example; s=s1\r\n",
        );
        let both = [request("A.example"), request("b\u{fc}cher.example")];
        let vouched = Vouched::of(&header, &both, None);
        assert_eq!(vouched.own, [1, 2]);
        let others = ["DKIM-Signature of other.example", "DKIM-Signature of a.example"];
        assert_eq!(vouched.others, others);
        assert_eq!(Vouched::of(&header, &[], None).others.len(), 4);
        let told = Vouched::of(&header, &[], None).told().unwrap();
        assert!(told.ends_with("other.example and 1 more"), "{told}");
        // The second one was not asked for: it was there before.
        let one = Vouched::of(&header, &both[..1], None);
        assert_eq!((one.own, one.others.len()), (vec![1], 3));
    }

    #[test]
    fn whatever_covers_a_message_is_a_signature() {
        for field in [
            "DomainKey-Signature: d=x",
            "DKIM2-Signature: d=x",
            "Message-Instance: m=1",
            "ARC-Seal: i=1; d=x",
            "ARC-Message-Signature: i=1; d=x",
        ] {
            let vouched = Vouched::of(&header(&format!("{field}\r\n")), &[request("x")], None);
            assert_eq!(vouched.others.len(), 1, "{field}");
        }
        assert_eq!(Vouched::of(&header("From: a\r\n"), &[], None).told(), None);
    }

    #[test]
    fn the_newest_set_is_ours_or_everybody_elses() {
        let set = |instance: u32, domain: &str| {
            format!(
                "ARC-Seal: i={instance}; cv=pass; d={domain}; s=arc\r\n\
                 ARC-Message-Signature: i={instance}; d={domain}; s=arc\r\n\
                 ARC-Authentication-Results: i={instance}; {domain}; none\r\n"
            )
        };
        let ours = header(&format!("{}{}", set(2, "relay.example"), set(1, "x.example")));
        let vouched = Vouched::of(&ours, &[], Some(&seal()));
        assert!(vouched.others.is_empty());
        assert_eq!(vouched.fields(), [0, 1, 2]);
        assert_eq!(vouched.set.unwrap().chain, "pass");
        let theirs = header(&format!("{}{}", set(2, "x.example"), set(1, "relay.example")));
        assert_eq!(Vouched::of(&theirs, &[], Some(&seal())).others.len(), 4);
        let doubled = header(&format!("{}{}", set(1, "relay.example"), set(1, "relay.example")));
        assert!(Vouched::of(&doubled, &[], Some(&seal())).set.is_none());
    }
}
