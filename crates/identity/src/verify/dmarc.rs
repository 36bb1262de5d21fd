//! Whether SPF or DKIM vouch for the domain that readers see (RFC 9989).

use mail_auth::dkim::Signature;
use mail_auth::dmarc::Policy;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::{
    AuthenticatedMessage, DkimOutput, DmarcOutput, DmarcResult, DnsError, Error,
    MessageAuthenticator, Parameters, SpfOutput, SpfResult,
};

use super::findings::{AuthResult, DkimFinding, DmarcFinding, DmarcPolicy, SpfFinding};
use super::watch::{Watch, texts};

/// How often the tree is walked again without records that do not count.
const MAX_WALKS: usize = 3;

/// Asks, with what SPF and DKIM came to. `authors` is the number of From fields.
pub(super) async fn check(
    authenticator: &MessageAuthenticator,
    message: &AuthenticatedMessage<'_>,
    authors: usize,
    spf: Option<&SpfFinding>,
    dkim: &[DkimFinding],
) -> DmarcFinding {
    // RFC 5322 §3.6: which of several does a reader see?
    if authors != 1 {
        let reason =
            if authors == 0 { "there is no author" } else { "there are several From fields" };
        let policy = DmarcPolicy::Reject;
        return DmarcFinding { policy, ..nothing(AuthResult::PermError, Some(reason)) };
    }
    let signatures: Vec<Signature> = dkim.iter().map(signature).collect();
    let dkim: Vec<DkimOutput<'_>> =
        dkim.iter().zip(&signatures).filter_map(|(finding, of)| output(finding, of)).collect();
    let sender = spf.map_or("", |spf| spf.domain.as_str());
    let spf = SpfOutput::new(sender.to_owned()).with_result(spf_result(spf));
    let watch = Watch::default();
    for _ in 0..MAX_WALKS {
        let parameters = DmarcParameters {
            message,
            dkim_output: &dkim,
            dkim2_output: None,
            rfc5321_mail_from_domain: sender,
            spf_output: &spf,
        };
        let parameters = Parameters::new(parameters).with_txt_cache(&watch).with_ipv4_cache(&watch);
        let output = authenticator.verify_dmarc(parameters).await;
        if !bar_doubles(authenticator, &watch).await {
            return finding(&output);
        }
    }
    nothing(AuthResult::PermError, Some("too many domains have several policies"))
}

/// A domain with several policies has none (RFC 9989 §4.10). True when one was found that had
/// counted.
async fn bar_doubles(authenticator: &MessageAuthenticator, watch: &Watch) -> bool {
    let mut found = false;
    for name in watch.take_texts() {
        let policies = texts(authenticator, &name).await.iter().filter(|t| is_policy(t)).count();
        if policies > 1 {
            watch.bar(&name);
            found = true;
        }
    }
    found
}

/// RFC 9989 §4.7, `v=`.
fn is_policy(text: &[u8]) -> bool {
    let mut start = text.iter().filter(|octet| !octet.is_ascii_whitespace());
    b"v=DMARC1".iter().all(|wanted| start.next().is_some_and(|o| o.eq_ignore_ascii_case(wanted)))
        && matches!(start.next(), None | Some(b';'))
}

fn signature(finding: &DkimFinding) -> Signature {
    Signature { d: finding.domain.clone(), ..Signature::default() }
}

/// What mail-auth is told of one signature; only those that pass, or may, count.
fn output<'x>(finding: &DkimFinding, signature: &'x Signature) -> Option<DkimOutput<'x>> {
    match finding.result {
        AuthResult::Pass => Some(DkimOutput::pass().with_signature(signature)),
        AuthResult::TempError => Some(DkimOutput::temp_err(unanswered()).with_signature(signature)),
        _ => None,
    }
}

fn spf_result(spf: Option<&SpfFinding>) -> SpfResult {
    match spf.map(|spf| spf.result) {
        Some(AuthResult::Pass) => SpfResult::Pass,
        Some(AuthResult::TempError) => SpfResult::TempError,
        _ => SpfResult::None,
    }
}

fn unanswered() -> Error {
    Error::Dns(DnsError::Resolver(String::new()))
}

fn finding(output: &DmarcOutput) -> DmarcFinding {
    let policy = match output.policy() {
        Policy::None | Policy::Unspecified => DmarcPolicy::None,
        Policy::Quarantine => DmarcPolicy::Quarantine,
        Policy::Reject => DmarcPolicy::Reject,
    };
    let (result, reason) = match output.result() {
        DmarcResult::Pass => (AuthResult::Pass, None),
        DmarcResult::Fail(_) => (AuthResult::Fail, None),
        DmarcResult::None => (AuthResult::None, None),
        DmarcResult::TempError(_) => (AuthResult::TempError, Some("a DNS server does not answer")),
        DmarcResult::PermError(_) => (AuthResult::PermError, Some("the policy cannot be read")),
    };
    DmarcFinding { result, domain: output.domain().to_owned(), policy, reason }
}

/// When there is no time to ask.
pub(super) fn unknown() -> DmarcFinding {
    nothing(AuthResult::TempError, Some("the time is up"))
}

fn nothing(result: AuthResult, reason: Option<&'static str>) -> DmarcFinding {
    DmarcFinding { result, domain: String::new(), policy: DmarcPolicy::None, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_policy() {
        for text in ["v=DMARC1", "v=DMARC1; p=none", "v = DMARC1 ;p=reject", "V=dmarc1;"] {
            assert!(is_policy(text.as_bytes()), "{text}");
        }
        for text in ["", "v=DMARC", "v=DMARC12; p=none", "p=none; v=DMARC1", "v=spf1 -all"] {
            assert!(!is_policy(text.as_bytes()), "{text}");
        }
    }
}
