//! Exim as an instance of its own: it stores mail of dest.example, and passes on everything else.

use std::fs;
use std::net::SocketAddr;

use waypost_harness::authority::Authority;
use waypost_scenarios::eventually;

use crate::jail::Jail;

/// Its number within the root.
const EXIM: u32 = 101;

/// A running instance.
pub(crate) struct Exim {
    pub(crate) jail: Jail,
    pub(crate) address: SocketAddr,
}

/// Where mail goes that is not for dest.example: lines of its smtp transport, and an authenticator if need be.
pub(crate) struct Next {
    pub(crate) port: u16,
    pub(crate) lines: &'static str,
    pub(crate) authenticators: &'static str,
}

impl Exim {
    /// Starts one with a certificate for 127.0.0.1 by this authority, whom it trusts, too.
    pub(crate) async fn start(authority: &Authority, next: &Next) -> Exim {
        let mut jail = Jail::new("exim");
        jail.certificate(authority, EXIM);
        jail.put("etc/authority", &authority.pem(), EXIM);
        jail.put("etc/exim4/boxes", "b: b\nc: c\nlater: later\nj\u{f6}rg: joerg\n", EXIM);
        jail.put("etc/exim4/exim4.conf", &configuration(jail.address.port(), next), 0);
        jail.start(&["/usr/sbin/exim4", "-bdf", "-q1s"]).await;
        let address = jail.address;
        Exim { jail, address }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.jail.log("var/log/exim4/mainlog")
    }

    /// Waits until it has logged this.
    pub(crate) async fn logs(&self, words: &str) {
        eventually(&format!("Exim logs {words}"), || self.log().contains(words)).await;
    }

    /// Takes mail for later@dest.example from now on.
    pub(crate) fn relent(&self) {
        fs::write(self.jail.path("etc/exim4/now"), "").unwrap();
    }
}

fn configuration(port: u16, next: &Next) -> String {
    let Next { port: onward, lines, authenticators } = next;
    format!(
        "primary_hostname = exim.example\n\
         local_interfaces = 127.0.0.1\n\
         daemon_smtp_ports = {port}\n\
         keep_environment =\n\
         host_lookup =\n\
         rfc1413_hosts =\n\
         message_size_limit = 50M\n\
         tls_advertise_hosts = *\n\
         tls_certificate = /etc/chain\n\
         tls_privatekey = /etc/key\n\
         smtputf8_advertise_hosts = *\n\
         dsn_advertise_hosts = *\n\
         chunking_advertise_hosts = *\n\
         log_selector = +pipelining\n\
         acl_smtp_rcpt = recipient\n\
         acl_smtp_data = accept\n\
         begin acl\n\
         recipient:\n\
         deny local_parts = nobody\n\
         message = 5.1.1 nobody of that name\n\
         defer local_parts = later\n\
         condition = ${{if !exists{{/etc/exim4/now}}}}\n\
         message = 4.2.1 not now\n\
         accept\n\
         begin routers\n\
         boxes:\n\
         driver = accept\n\
         domains = dest.example\n\
         local_parts = lsearch;/etc/exim4/boxes\n\
         transport = box\n\
         others:\n\
         driver = manualroute\n\
         route_list = * 127.0.0.1\n\
         self = send\n\
         transport = next\n\
         begin transports\n\
         box:\n\
         driver = appendfile\n\
         directory = /mail/$local_part_data\n\
         maildir_format\n\
         use_crlf\n\
         user = mailbox\n\
         next:\n\
         driver = smtp\n\
         port = {onward}\n\
         allow_localhost\n\
         {lines}\
         begin retry\n\
         * * F,1h,1s\n\
         {authenticators}"
    )
}
