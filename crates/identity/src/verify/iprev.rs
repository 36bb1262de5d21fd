//! Whether the peer's address and its name point at each other (RFC 8601 §3).

use std::net::IpAddr;

use mail_auth::{IprevResult, MessageAuthenticator};

use super::findings::{AuthResult, IprevFinding};

/// Asks.
pub(super) async fn check(authenticator: &MessageAuthenticator, ip: IpAddr) -> IprevFinding {
    let output = authenticator.verify_iprev(ip).await;
    let result = match output.result {
        IprevResult::Pass => AuthResult::Pass,
        IprevResult::Fail(_) => AuthResult::Fail,
        IprevResult::TempError(_) => AuthResult::TempError,
        // RFC 8601 §2.7.3: there is a name, and it does not exist.
        IprevResult::PermError(_) if output.ptr.is_some() => AuthResult::Fail,
        IprevResult::PermError(_) => AuthResult::PermError,
        IprevResult::None => AuthResult::None,
    };
    let name = match output.ptr.as_deref() {
        Some([only]) if result == AuthResult::Pass => Some(only.trim_end_matches('.').to_owned()),
        _ => None,
    };
    IprevFinding { result, ip, name }
}

/// When there is no time to ask.
pub(super) fn unknown(ip: IpAddr) -> IprevFinding {
    IprevFinding { result: AuthResult::TempError, ip, name: None }
}
