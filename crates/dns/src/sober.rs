//! Answers without what is not about their question, before they are validated.
//!
//! hickory verifies each set of records by itself. But where all that stands beside an answer is provably
//! unsigned, it looks no further, wherever that is from; and NSEC3 records with too many iterations prove to
//! it that anything is unsigned (RFC 9276 §3.2). Who can answer for the server could so take away what he
//! likes, by records of any zone of his own. So nothing gets there but records of the name that was asked
//! for, and of zones that it is in.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use hickory_resolver::config::ConnectionConfig;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsExchange, DnsHandle};
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, Message, Query};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{ConnectionProvider, PoolContext};

type Responses = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
type Connecting = Pin<Box<dyn Future<Output = Result<Connection, NetError>> + Send>>;

/// Connections to servers of which only such answers come through.
#[derive(Clone, Default)]
pub(crate) struct Sober(TokioRuntimeProvider);

/// One of them.
#[derive(Clone)]
pub(crate) struct Connection(DnsExchange<TokioRuntimeProvider>);

impl ConnectionProvider for Sober {
    type Conn = Connection;
    type FutureConn = Connecting;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        cx: &PoolContext,
    ) -> Result<Connecting, NetError> {
        let connecting = self.0.new_connection(ip, config, cx)?;
        Ok(Box::pin(async move { Ok(Connection(connecting.await?)) }))
    }

    fn runtime_provider(&self) -> &TokioRuntimeProvider {
        &self.0
    }
}

impl DnsHandle for Connection {
    type Response = Responses;
    type Runtime = TokioRuntimeProvider;

    fn is_using_edns(&self) -> bool {
        self.0.is_using_edns()
    }

    fn send(&self, request: DnsRequest) -> Responses {
        let asked = request.queries.clone();
        let responses = self.0.send(request);
        Box::pin(responses.map(move |response| {
            let mut response = response?;
            sober(&mut response, &asked)?;
            Ok(response)
        }))
    }
}

/// Leaves what is about the question. Over TCP nobody else looks whether it is the same.
fn sober(response: &mut Message, asked: &[Query]) -> Result<(), NetError> {
    let [question] = asked else { return Err("one question is asked at a time".into()) };
    if response.queries != asked {
        return Err("this is the answer to another question".into());
    }
    let name = question.name();
    // Where an alias leads is asked for by itself, so that it is validated by itself.
    response.answers.retain(|record| record.name == *name);
    let proofs: Vec<(Name, RecordType)> =
        response.authorities.iter().filter_map(|record| proof_of(record, name)).collect();
    response.authorities.retain(|record| is_about(record, name, &proofs));
    Ok(())
}

/// Of which records this is the signature of a zone that the name is in.
fn proof_of(record: &Record, name: &Name) -> Option<(Name, RecordType)> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => {
            let input = signature.input();
            input.signer_name.zone_of(name).then(|| (record.name.clone(), input.type_covered))
        }
        _ => None,
    }
}

fn is_about(record: &Record, name: &Name, proofs: &[(Name, RecordType)]) -> bool {
    match record.record_type() {
        RecordType::RRSIG => proof_of(record, name).is_some(),
        // They stand beside the name, not above it: their signature tells their zone.
        kind @ (RecordType::NSEC | RecordType::NSEC3) => {
            proofs.iter().any(|(owner, covered)| *covered == kind && *owner == record.name)
        }
        _ => record.name.zone_of(name),
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::rdata::{A, NS};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn ns(owner: &str) -> Record {
        Record::from_rdata(name(owner), 60, RData::NS(NS(name("ns."))))
    }

    #[test]
    fn only_zones_around_a_name_and_itself_are_about_it() {
        let asked = [Query::query(name("MX.example."), RecordType::A)];
        let mut response = Message::query();
        response.add_query(asked[0].clone());
        for owner in ["mx.example.", "other.example."] {
            response.add_answer(Record::from_rdata(
                name(owner),
                60,
                RData::A(A::new(192, 0, 2, 1)),
            ));
        }
        for owner in [".", "example.", "mx.example.", "a.mx.example.", "ample.", "plain."] {
            response.add_authority(ns(owner));
        }
        sober(&mut response, &asked).unwrap();
        let owners = |records: &[Record]| -> Vec<String> {
            records.iter().map(|record| record.name.to_ascii()).collect()
        };
        assert_eq!(owners(&response.answers), ["mx.example."]);
        assert_eq!(owners(&response.authorities), [".", "example.", "mx.example."]);
    }

    #[test]
    fn answers_to_other_questions_are_none() {
        let asked = |kind| [Query::query(name("mx.example."), kind)];
        let mut response = Message::query();
        response.add_query(asked(RecordType::A)[0].clone());
        assert!(sober(&mut response, &asked(RecordType::A)).is_ok());
        assert!(sober(&mut response, &asked(RecordType::TLSA)).is_err());
        assert!(sober(&mut Message::query(), &asked(RecordType::A)).is_err());
    }
}
