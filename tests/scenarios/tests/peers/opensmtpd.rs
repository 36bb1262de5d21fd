//! OpenSMTPD as an instance of its own: it stores mail of dest.example, and passes on everything else.

use std::net::SocketAddr;

use waypost_harness::authority::Authority;
use waypost_scenarios::eventually;

use crate::jail::Jail;

/// A running instance.
pub(crate) struct OpenSmtpd {
    pub(crate) jail: Jail,
    pub(crate) address: SocketAddr,
}

impl OpenSmtpd {
    /// Starts one with a certificate for 127.0.0.1 by this authority, whom it trusts, too. Mail that is not for
    /// dest.example goes to `next`, a URL as smtpd.conf(5) knows them, perhaps with a login `us`.
    pub(crate) async fn start(authority: &Authority, next: &str) -> OpenSmtpd {
        let mut jail = Jail::new("opensmtpd");
        jail.certificate(authority, 0);
        // Where OpenSSL of the package looks; not secret within.
        jail.put("etc/ssl/certs/ca-certificates.crt", &authority.pem(), 0);
        jail.share("etc/ssl/certs/ca-certificates.crt");
        let login = format!("us {}:{}\n", waypost_scenarios::USER, waypost_scenarios::PASSWORD);
        jail.put("etc/logins", &login, 0);
        jail.share("etc/logins");
        jail.put("etc/later", "later@dest.example\n", 0);
        jail.share("etc/later");
        jail.put("etc/smtpd.conf", &configuration(jail.address.port(), next), 0);
        jail.start(&["/usr/sbin/smtpd", "-d"]).await;
        let address = jail.address;
        OpenSmtpd { jail, address }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.jail.log("log")
    }

    /// Waits until it has logged this.
    pub(crate) async fn logs(&self, words: &str) {
        eventually(&format!("OpenSMTPD logs {words}"), || self.log().contains(words)).await;
    }

    /// Takes mail for later@dest.example from now on.
    pub(crate) fn relent(&self) {
        self.jail.put("etc/later", "nobody@nowhere.example\n", 0);
        self.jail.share("etc/later");
        self.jail.run(&["/usr/sbin/smtpctl", "update", "table", "later"]);
    }

    /// True when its TLS is of no use: version 6.8 as a server cannot sign with the OpenSSL 3 that
    /// Debian 12 built it against (its issue 1171).
    pub(crate) fn cannot_shake_hands(&self) -> bool {
        self.log().contains("EVP lib")
    }
}

fn configuration(port: u16, next: &str) -> String {
    let login = if next.contains("us@") { " auth <logins>" } else { "" };
    format!(
        "pki ours cert \"/etc/chain\"\n\
         pki ours key \"/etc/key\"\n\
         table boxes {{ \"b@dest.example\" = \"mailbox\", \"c@dest.example\" = \"mailbox\", \
         \"later@dest.example\" = \"mailbox\" }}\n\
         table known {{ \"b@dest.example\", \"c@dest.example\", \"later@dest.example\" }}\n\
         table later file:/etc/later\n\
         table logins file:/etc/logins\n\
         queue ttl 1h\n\
         filter not_now phase rcpt-to match rcpt-to <later> reject \"451 4.2.1 not now\"\n\
         listen on 127.0.0.1 port {port} tls pki ours hostname opensmtpd.example filter not_now\n\
         action box maildir \"/mail/%{{rcpt.user}}\" virtual <boxes>\n\
         action next relay host \"{next}\" helo opensmtpd.example{login}\n\
         match from any for domain dest.example rcpt-to <known> action box\n\
         match from any for domain dest.example reject\n\
         match from any for any action next\n"
    )
}
