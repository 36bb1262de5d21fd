//! Notes as an operator reads them: one event a line, what belongs to it below, further right. Whatever
//! strangers said stays on its line and moves no cursor.

use std::fmt;

use waypost_mail::Timestamp;
use waypost_mail::visible::plain;

use crate::note::{
    Accepted, Attempt, Decided, Fared, Held, Line, Lookup, Note, Notice, Order, Refused, Speaker,
    Step, Told, Visit,
};

/// What an event's details stand under.
const INDENT: usize = 26;

impl fmt::Display for Told {
    /// Lines, each with its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut page = Page { f, at: Some(self.at) };
        match &self.note {
            Note::Accepted(accepted) => page.accepted(accepted),
            Note::Refused(refused) => page.refused(refused),
            Note::Decided(decided) => page.decided(decided),
            Note::Attempt(attempt) => page.attempt(attempt),
            Note::Notice(notice) => page.notice(notice),
            Note::Order(order) => page.order(order),
            Note::Discarded { reason } => {
                page.line(0, &format!("dropped by policy, the sender is not told: {reason}"))
            }
            Note::Started { version } => page.line(0, &format!("the relay started ({version})")),
            Note::Ended => page.line(0, "the relay ended"),
            Note::Lost { count, since } => {
                let text = format!(
                    "{count} notes were lost since {since}, of this message or others: what happened then may be missing here"
                );
                page.line(0, &text)
            }
        }
    }
}

/// A text that grows by whole lines.
struct Page<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    /// The moment that the next line begins with.
    at: Option<Timestamp>,
}

impl Page<'_, '_> {
    fn line(&mut self, deeper: usize, text: &str) -> fmt::Result {
        let text = plain(text);
        match self.at.take() {
            Some(at) => writeln!(self.f, "{at}  {text}"),
            None => writeln!(self.f, "{:1$}{text}", "", INDENT + 2 * deeper),
        }
    }

    fn accepted(&mut self, accepted: &Accepted) -> fmt::Result {
        let Accepted { listener, protocol, size, sender, .. } = accepted;
        let mut text = match &accepted.client {
            Some(client) => format!("accepted from {client} by {listener} ({protocol})"),
            None => "written by the relay itself".to_owned(),
        };
        if let Some(helo) = &accepted.helo {
            text += &format!(", who says to be {helo}");
        }
        if accepted.client.is_some() {
            match &accepted.tls {
                Some(tls) => text += &format!(", over TLS {tls}"),
                None => text += ", in clear text",
            }
        }
        if let Some(user) = &accepted.user {
            text += &format!(", user {user}");
        }
        self.line(0, &text)?;
        if let Some(about) = accepted.notice_about {
            self.line(0, &format!("a notice about the message {about}"))?;
        }
        let priority = match accepted.priority {
            0 => String::new(),
            priority => format!(", priority {priority}"),
        };
        let expires = accepted.expires;
        self.line(0, &format!("from <{sender}>, {size} octets{priority}, expires {expires}"))?;
        for goes in &accepted.recipients {
            self.line(0, &format!("to <{}>: {}", goes.recipient, goes.way))?;
        }
        self.more(accepted.more, "recipients")?;
        for fact in &accepted.facts {
            self.line(0, &format!("{} = {}", fact.name, fact.value))?;
        }
        for signed in &accepted.signed {
            self.line(0, &format!("signed: {signed}"))?;
        }
        Ok(())
    }

    fn more(&mut self, more: u32, what: &str) -> fmt::Result {
        if more > 0 { self.line(0, &format!("and {more} more {what}")) } else { Ok(()) }
    }

    fn refused(&mut self, refused: &Refused) -> fmt::Result {
        let Refused { listener, client, sender, reply, .. } = refused;
        let text = format!("refused, from {client} by {listener}, sender <{sender}>: {reply}");
        self.line(0, &text)
    }

    fn decided(&mut self, decided: &Decided) -> fmt::Result {
        let Decided { stage, plugin, generation, digest, verdict, took_us, .. } = decided;
        let mode = match decided.mode.as_str() {
            "enforce" => String::new(),
            mode => format!(" ({mode}: it does not count)"),
        };
        let about = match decided.about.as_str() {
            "" => String::new(),
            about => format!(" about {about}"),
        };
        let took = span(*took_us);
        let text = format!(
            "plugin {plugin} at {stage}{about}: {verdict}{mode}, in {took} (generation {generation}, {digest})"
        );
        self.line(0, &text)?;
        for edit in &decided.edits {
            self.line(0, &format!("change: {edit}"))?;
        }
        for reason in &decided.reasons {
            self.line(0, &format!("because {reason}"))?;
        }
        Ok(())
    }

    fn attempt(&mut self, attempt: &Attempt) -> fmt::Result {
        let Attempt { number, began, took_us, destination, steps, results, .. } = attempt;
        if steps.is_empty() {
            self.line(0, &format!("settled without an attempt, destination {destination}"))?;
        } else {
            let took = span(*took_us);
            self.line(
                0,
                &format!("attempt {number} for {destination}, begun {began}, {took} long"),
            )?;
        }
        if let Some(due) = attempt.due
            && began.since(due).as_secs() > 0
        {
            let waited = span(began.since(due).as_micros() as u64);
            self.line(0, &format!("it was due at {due} and waited {waited} for its turn"))?;
        }
        for held in &attempt.held {
            self.held(held)?;
        }
        for step in steps {
            match step {
                Step::Lookup(lookup) => self.lookup(lookup)?,
                Step::Visit(visit) => self.visit(visit)?,
                Step::Held(held) => self.held(held)?,
            }
        }
        for fared in results {
            self.fared(fared)?;
        }
        self.more(attempt.more, "recipients")
    }

    fn held(&mut self, held: &Held) -> fmt::Result {
        let Held { words, since, took_us, .. } = held;
        match took_us {
            0 => self.line(1, &format!("held back by {words}")),
            took => {
                self.line(1, &format!("held back by {words}, for {} from {since} on", span(*took)))
            }
        }
    }

    fn lookup(&mut self, lookup: &Lookup) -> fmt::Result {
        let Lookup { hop, names, took_us, hosts, .. } = lookup;
        let took = span(*took_us);
        match &lookup.error {
            Some(error) => self.line(0, &format!("looked up {hop} in {took}: {error}"))?,
            None => {
                let hosts = hosts.join(", ");
                self.line(0, &format!("looked up {hop} in {took}: {hosts}; {names}"))?;
            }
        }
        match &lookup.policy {
            Some(policy) => self.line(1, &format!("MTA-STS: {policy}")),
            None => Ok(()),
        }
    }

    fn visit(&mut self, visit: &Visit) -> fmt::Result {
        let Visit { host, took_us, demand, tls, dialogue, cut, .. } = visit;
        let from = visit.source.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
        self.line(0, &format!("{host}{from}, {}", span(*took_us)))?;
        if let Some(messages) = visit.reused {
            let text = format!("over a connection that had carried {messages} messages before");
            self.line(1, &text)?;
        }
        self.line(1, &format!("TLS: {tls}; demanded: {demand}"))?;
        if let Some(conversion) = &visit.conversion {
            self.line(1, conversion)?;
        }
        if !visit.phases.is_empty() {
            let phase = |(phase, took): &(String, u64)| format!("{phase} {}", span(*took));
            let phases: Vec<String> = visit.phases.iter().map(phase).collect();
            self.line(1, &format!("took: {}", phases.join(", ")))?;
        }
        for line in dialogue {
            self.said(line)?;
        }
        if *cut > 0 {
            self.line(1, &format!("{cut} octets of the dialogue are left out"))?;
        }
        match &visit.error {
            Some(error) => self.line(1, &format!("failed: {error}")),
            None => Ok(()),
        }
    }

    fn said(&mut self, line: &Line) -> fmt::Result {
        let mark = match line.who {
            Speaker::We => ">",
            Speaker::They => "<",
            Speaker::Aside => "*",
        };
        self.line(1, &format!("{:>9}  {mark} {}", span(line.at_us), line.text))
    }

    fn fared(&mut self, fared: &Fared) -> fmt::Result {
        let Fared { recipient, outcome, class, status, means, rule, words, next } = fared;
        let rule = rule.as_ref().map(|rule| format!("rule {rule}"));
        let kind: Vec<&str> =
            [class, status, means, &rule].into_iter().flatten().map(String::as_str).collect();
        let kind = if kind.is_empty() { String::new() } else { format!(" ({})", kind.join(", ")) };
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        let next = next.map(|next| format!("; next at {next}")).unwrap_or_default();
        self.line(0, &format!("<{recipient}> {outcome}{kind}{words}{next}"))
    }

    fn notice(&mut self, notice: &Notice) -> fmt::Result {
        let Notice { id, to, kinds } = notice;
        let text = format!("the sender <{to}> is told of it ({}) by {id}", kinds.join(", "));
        self.line(0, &text)
    }

    fn order(&mut self, order: &Order) -> fmt::Result {
        let Order { verb, words, changed, in_flight } = order;
        let words = if words.is_empty() { String::new() } else { format!(" ({words})") };
        let left = match in_flight {
            0 => String::new(),
            left => format!(", {left} in flight were left alone"),
        };
        self.line(0, &format!("an operator said {verb}{words}: {changed} recipients changed{left}"))
    }
}

/// Microseconds for people.
fn span(us: u64) -> String {
    match us {
        0..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..10_000_000 => format!("{} ms", us / 1000),
        10_000_000..600_000_000 => format!("{} s", us / 1_000_000),
        _ => format!("{} min", us / 60_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::About;

    fn told(note: Note) -> String {
        Told { at: Timestamp(1_709_210_096_789), about: About::Relay, note }.to_string()
    }

    #[test]
    fn strangers_words_stay_on_their_line() {
        let reason = "no\nway\r\x1b[2J\u{202e}gpj".to_owned();
        assert_eq!(
            told(Note::Discarded { reason }),
            "2024-02-29T12:34:56.789Z  dropped by policy, the sender is not told: no way  [2J gpj\n"
        );
    }

    #[test]
    fn what_belongs_to_an_event_stands_below_it() {
        let decided = Decided {
            stage: "message".to_owned(),
            plugin: "route".to_owned(),
            generation: 3,
            digest: "ab12".to_owned(),
            mode: "shadow".to_owned(),
            about: String::new(),
            verdict: "proceed".to_owned(),
            edits: vec!["add X: y".to_owned()],
            reasons: vec!["vip: a good customer (rule 7)".to_owned()],
            took_us: 250,
        };
        assert_eq!(
            told(Note::Decided(Box::new(decided))),
            "2024-02-29T12:34:56.789Z  plugin route at message: proceed (shadow: it does not count), in 0.2 ms (generation 3, ab12)\n\
             \x20                         change: add X: y\n\
             \x20                         because vip: a good customer (rule 7)\n"
        );
    }

    #[test]
    fn times_are_as_coarse_as_they_are_long() {
        let spans = [250, 12_345, 12_345_678, 3_600_000_000].map(span);
        assert_eq!(spans, ["0.2 ms", "12 ms", "12 s", "60 min"]);
    }
}
