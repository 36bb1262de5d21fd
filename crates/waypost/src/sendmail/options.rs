//! The arguments, as thirty years of callers give them.

use std::ffi::OsString;
use std::path::PathBuf;

use super::exit::{Exit, Failure};

/// Options whose value stands behind them or is the next argument; `d`, `e` and `q` have theirs behind
/// them or none.
const WITH_VALUE: &str = "ABCDFLNORVXbfhopr";
/// Options that say what happens anyway, or nothing that matters here.
const IGNORED: &str = "AGILUXcdehmnpx";

/// What is to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Hand in standard input (-bm).
    #[default]
    Submit,
    /// Speak SMTP on standard input and output (-bs).
    Serve,
}

/// What notices the sender wants (RFC 3461), in the words of SMTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Delivery {
    /// `NEVER`, or some of `SUCCESS`, `FAILURE`, `DELAY` (-N).
    pub(super) notify: Option<String>,
    /// `FULL` or `HDRS` (-R).
    pub(super) ret: Option<String>,
    /// The sender's own name for the message, not encoded (-V).
    pub(super) envid: Option<String>,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) mode: Mode,
    /// Recipients are those of the header too (-t).
    pub(super) from_header: bool,
    /// A line with a dot alone does not end the message (-i, -oi).
    pub(super) dots_are_text: bool,
    /// The envelope sender, empty for the null sender (-f, -r).
    pub(super) sender: Option<String>,
    /// For a From field made here (-F).
    pub(super) full_name: Option<String>,
    pub(super) delivery: Delivery,
    /// Tell what is said (-v).
    pub(super) verbose: bool,
    /// The relay's configuration (-C).
    pub(super) config: Option<PathBuf>,
    pub(super) recipients: Vec<String>,
}

impl Options {
    pub(super) fn parse(arguments: &[OsString]) -> Result<Options, Failure> {
        let mut options = Options::default();
        let mut rest = arguments.iter().map(|argument| {
            argument.to_str().ok_or_else(|| usage("an argument is not in UTF-8".to_owned()))
        });
        while let Some(argument) = rest.next().transpose()? {
            match argument.strip_prefix('-') {
                None | Some("") => options.recipients.extend(recipients(argument)),
                Some("-") => {
                    for argument in rest.by_ref() {
                        options.recipients.extend(recipients(argument?));
                    }
                }
                Some(letters) => options.cluster(letters, &mut rest)?,
            }
        }
        Ok(options)
    }

    /// `-ti` is `-t -i`; a letter with a value takes what is left, or the next argument.
    fn cluster<'a>(
        &mut self,
        letters: &'a str,
        rest: &mut impl Iterator<Item = Result<&'a str, Failure>>,
    ) -> Result<(), Failure> {
        for (at, letter) in letters.char_indices() {
            let behind = &letters[at + letter.len_utf8()..];
            if WITH_VALUE.contains(letter) {
                let value = match behind {
                    "" => rest.next().transpose()?,
                    value => Some(value),
                };
                let value = value.ok_or_else(|| usage(format!("-{letter} needs a value")))?;
                return self.set(letter, value);
            }
            match letter {
                't' => self.from_header = true,
                'i' => self.dots_are_text = true,
                'v' => self.verbose = true,
                'q' => return Err(elsewhere("-q", "waypost queue retry")),
                's' => return Err(elsewhere("-s", "waypost queue list")),
                // What is behind these belongs to them.
                'd' | 'e' => return Ok(()),
                _ if IGNORED.contains(letter) => {}
                _ => return Err(usage(format!("-{letter} is not known"))),
            }
        }
        Ok(())
    }

    fn set(&mut self, letter: char, value: &str) -> Result<(), Failure> {
        match letter {
            'f' | 'r' => self.sender = Some(bare(value).to_owned()),
            'F' => self.full_name = Some(value.to_owned()),
            'C' => self.config = Some(PathBuf::from(value)),
            'N' => self.delivery.notify = Some(notify(value)?),
            'R' => self.delivery.ret = Some(ret(value)?),
            'V' => self.delivery.envid = Some(envid(value)?),
            'o' if value == "i" => self.dots_are_text = true,
            'b' => match value {
                "m" => self.mode = Mode::Submit,
                "s" => self.mode = Mode::Serve,
                "p" => return Err(elsewhere("-bp", "waypost queue list")),
                "d" | "D" => return Err(elsewhere("-bd", "waypost run")),
                other => return Err(usage(format!("-b{other} is nothing this command does"))),
            },
            // What a body holds is seen in it; other settings are the relay's.
            _ => {}
        }
        Ok(())
    }
}

/// One argument may name several, with commas between them.
fn recipients(argument: &str) -> Vec<String> {
    let found = waypost_mail::AddressList::find(argument);
    match found.broken.is_empty() {
        true => found.found.into_iter().map(|place| argument[place].to_owned()).collect(),
        // The relay says what is wrong with it.
        false => vec![argument.to_owned()],
    }
}

fn bare(address: &str) -> &str {
    let inner = address.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    inner.unwrap_or(address).trim()
}

fn notify(value: &str) -> Result<String, Failure> {
    let value = value.to_ascii_uppercase();
    let known = |word: &str| matches!(word, "SUCCESS" | "FAILURE" | "DELAY");
    if value == "NEVER" || value.split(',').all(known) {
        return Ok(value);
    }
    Err(usage("-N takes 'never', or some of 'success,failure,delay'".to_owned()))
}

fn ret(value: &str) -> Result<String, Failure> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Ok("FULL".to_owned()),
        "HDRS" => Ok("HDRS".to_owned()),
        _ => Err(usage("-R takes 'full' or 'hdrs'".to_owned())),
    }
}

/// RFC 3461 §4.4: printable, at most 100 characters with its encoding.
fn envid(value: &str) -> Result<String, Failure> {
    let printable = |byte: u8| (b' '..=b'~').contains(&byte);
    if !value.is_empty() && value.len() <= 100 && value.bytes().all(printable) {
        return Ok(value.to_owned());
    }
    Err(usage("-V takes 1 to 100 printable characters".to_owned()))
}

fn elsewhere(option: &str, command: &str) -> Failure {
    usage(format!("{option} is not for this command; see: {command}"))
}

fn usage(words: String) -> Failure {
    Failure::new(Exit::Usage, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Options {
        Options::parse(&words(line)).unwrap()
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    #[test]
    fn php_cron_and_git_are_understood() {
        let php = parsed("-t -i -fwww@shop.example");
        assert!(php.from_header && php.dots_are_text && php.recipients.is_empty());
        assert_eq!(php.sender.as_deref(), Some("www@shop.example"));
        let cron = parsed("-FCronDaemon -i -B8BITMIME -oem root");
        assert_eq!(cron.full_name.as_deref(), Some("CronDaemon"));
        assert_eq!((cron.recipients, cron.dots_are_text), (vec!["root".to_owned()], true));
        let debian_cron = parsed("-i -FCronDaemon -oem -oi -bm -- root");
        assert_eq!(debian_cron.recipients, ["root"]);
        let git = parsed("-i -f a@b.example c@d.example -- -odd@e.example,f");
        assert_eq!(git.recipients, ["c@d.example", "-odd@e.example", "f"]);
    }

    #[test]
    fn letters_stand_together_and_values_apart() {
        let options =
            parsed("-tiv -o i -O DeliveryMode=b -odb -om -em -d0.1 -G -U -h 5 -p ESMTP a");
        assert!(options.from_header && options.dots_are_text && options.verbose);
        assert_eq!(options.recipients, ["a"]);
        assert_eq!(parsed("-f <> a").sender.as_deref(), Some(""));
        assert_eq!(parsed("-r <a@b> x").sender.as_deref(), Some("a@b"));
        assert_eq!(parsed("-bs").mode, Mode::Serve);
        let dsn = parsed("-N success,delay -R hdrs -V id+1 a").delivery;
        assert_eq!(dsn.notify.as_deref(), Some("SUCCESS,DELAY"));
        assert_eq!((dsn.ret.as_deref(), dsn.envid.as_deref()), (Some("HDRS"), Some("id+1")));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for line in ["-Z", "-bz", "-bp", "-q", "-f", "-N always", "-N never,delay", "-R all", "-tZ"]
        {
            let failure = Options::parse(&words(line)).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{line}");
        }
    }
}
