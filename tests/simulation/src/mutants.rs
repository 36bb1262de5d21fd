//! The bugs that the simulation must find.

/// A planted bug: `planted!` with this name, less the prefix, in a room of the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutant {
    /// As it is planted.
    pub name: &'static str,
    /// The crate it is in.
    pub room: &'static str,
}

/// What planted names begin with.
pub const PREFIX: &str = "mutant: ";

const fn mutant(room: &'static str, name: &'static str) -> Mutant {
    Mutant { room, name }
}

/// All of them.
pub const MUTANTS: &[Mutant] = &[
    mutant("smtp", "mutant: a recipient too many"),
    mutant("smtp", "mutant: a slip too many"),
    mutant("smtp", "mutant: 250 whatever became of it"),
    mutant("smtp", "mutant: a dot is not doubled"),
    mutant("smtp", "mutant: a refused recipient counts as taken"),
    mutant("smtp", "mutant: no counts as yes after the dot"),
    mutant("inbound", "mutant: 250 and nothing is kept"),
    mutant("inbound", "mutant: who was refused at RCPT gets it too"),
    mutant("inbound", "mutant: a long piece of a message is dropped"),
    mutant("inbound", "mutant: a session too many"),
    mutant("intake", "mutant: 250 before it is written"),
    mutant("intake", "mutant: 250 though storage failed"),
    mutant("intake", "mutant: a refused recipient is tried"),
    mutant("intake", "mutant: quarantine is forgotten"),
    mutant("queue", "mutant: a dropped ticket keeps its lease"),
    mutant("queue", "mutant: a lease ends before its settlement is written"),
    mutant("queue", "mutant: who is in hand is given out again"),
    mutant("queue", "mutant: what is held is given out"),
    mutant("queue", "mutant: nobody waits until it is due"),
    mutant("queue", "mutant: a recipient too many in a ticket"),
    mutant("queue", "mutant: an attempt too many for a destination"),
    mutant("queue", "mutant: an attempt too many in all"),
    mutant("queue", "mutant: a slot is never given back"),
    mutant("queue", "mutant: what arrives is not scheduled"),
    mutant("queue", "mutant: a bounce without its notice"),
    mutant("queue", "mutant: an attempt before its window opens"),
    mutant("queue", "mutant: an attempt beyond its rate"),
    mutant("queue", "mutant: a change is not in the lists"),
    mutant("queue", "mutant: a notice is told of as late"),
    mutant("queue", "mutant: a delay is told of too early"),
    mutant("queue", "mutant: a reroute releases"),
    mutant("queue", "mutant: a message gets half its time"),
    mutant("queue", "mutant: what the next hop leaves is not kept"),
    mutant("queue", "mutant: what goes through needs no leave"),
    mutant("delivery", "mutant: answers are taken for those of others"),
    mutant("delivery", "mutant: no reply to the final dot counts as yes"),
    mutant("delivery", "mutant: what may pass bounces"),
    mutant("delivery", "mutant: who is in doubt is given up"),
    mutant("delivery", "mutant: that a delay was told of is forgotten"),
    mutant("delivery", "mutant: who wants to hear nothing is told"),
    mutant("delivery", "mutant: success is told to who did not ask"),
    mutant("delivery", "mutant: the first of a group speaks for all"),
    mutant("delivery", "mutant: who is refused beside others is not told of"),
    mutant("spool", "mutant: what sled was not given yet is not there"),
    mutant("spool", "mutant: acknowledged before the log is synced"),
    mutant("spool", "mutant: a failed sync is taken for one that worked"),
    mutant("spool", "mutant: a row goes without DONE and TOMB"),
    mutant("spool", "mutant: a segment goes with a living record in it"),
    mutant("spool", "mutant: what moves takes its first state along"),
    mutant("spool", "mutant: a failed append stays in the log"),
    mutant("spool", "mutant: a torn group counts"),
    mutant("spool", "mutant: a new segment is not in its directory"),
    mutant("spool", "mutant: a digest that leaves out who is gone outweighs the index"),
    mutant("spool", "mutant: a digest without its last record outweighs the index"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn collect(dir: &Path, found: &mut Vec<(String, String)>) {
        for item in std::fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for piece in text.split("planted!(\"").skip(1) {
                    let name = piece.split('"').next().unwrap();
                    let room =
                        path.components().rev().skip_while(|c| c.as_os_str() != "src").nth(1);
                    let room = room.unwrap().as_os_str().to_str().unwrap().to_owned();
                    found.push((room, format!("{PREFIX}{name}")));
                }
            }
        }
    }

    #[test]
    fn every_site_is_listed_and_every_listed_bug_has_a_site() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
        let mut found = Vec::new();
        collect(&crates.canonicalize().unwrap(), &mut found);
        let planted: BTreeSet<_> = found.iter().cloned().collect();
        assert_eq!(planted.len(), found.len(), "a bug is planted in one place");
        let listed = MUTANTS.iter().map(|m| (m.room.to_owned(), m.name.to_owned()));
        assert_eq!(planted, listed.collect());
    }
}
