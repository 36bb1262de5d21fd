//! A message converted for hosts that cannot take it as it is (RFC 6152 §3, RFC 3030 §3, RFC 6531 §3.2):
//! its copy, in memory or in a file that goes with it, and signed again.
//!
//! All of this blocks: it reads the message twice and writes it once.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use waypost_convert::{Plan, Rewrite, Survey, Target, Unfit};
use waypost_identity::{BodyHash, BodyHasher, Keyring, SealError, SealRequest, SignError, Vouched};
use waypost_mail::{HeaderBlock, IncomingFile, MessageId, Rope, SignRequest, Text, Timestamp};
use waypost_queue::{Content, SpoolError};
use waypost_smtp::BodyType;

/// How much of a body is looked at in one go.
const PIECE: usize = 128 * 1024;
/// A body of a copy up to so many octets stays in memory.
const IN_MEMORY: usize = 256 * 1024;

/// What is asked of a conversion.
pub(crate) struct Order {
    pub(crate) message: MessageId,
    pub(crate) target: Target,
    /// The message as it is stored.
    pub(crate) text: Text,
    /// What it holds by its record.
    pub(crate) body: BodyType,
    /// The signatures that it got from us.
    pub(crate) sign: Vec<SignRequest>,
    pub(crate) seal: Option<SealRequest>,
    pub(crate) keys: Keyring,
    pub(crate) now: Timestamp,
    /// Where a large copy lies while it is needed; emptied at each start.
    pub(crate) directory: PathBuf,
    pub(crate) limits: Limits,
}

/// How far a conversion may go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Signatures of others may break.
    pub(crate) breaks_signatures: bool,
    /// A header in UTF-8 may be written anew: who submitted it did so here (RFC 6531 §3.2).
    pub(crate) rewrites_header: bool,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCopy {
    /// It would not be the same message.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// Somebody else's signature would break.
    #[error("that would break a signature of somebody else ({0})")]
    Signed(String),
    /// Only who takes a message from its author may do that (RFC 6531 §3.2).
    #[error(
        "its header is internationalized, and only the server of the author may write it in ASCII"
    )]
    NotOurs,
    /// It cannot be signed as the message is: it must not go out without.
    #[error("it cannot be signed again: {0}")]
    Unsigned(#[from] SignError),
    /// The same of the set of ARC that we made.
    #[error("it cannot be sealed again: {0}")]
    Unsealed(#[from] SealError),
    /// This machine failed.
    #[error("{0}")]
    Failed(#[from] io::Error),
}

/// The message as hosts can take it that lack something.
#[derive(Debug)]
pub(crate) struct Converted {
    message: MessageId,
    target: Target,
    text: Text,
    /// What it holds now.
    pub(crate) body: BodyType,
    /// Nothing had to be changed.
    pub(crate) is_same: bool,
    /// Goes when nobody reads it any more.
    _file: Option<IncomingFile>,
}

impl Converted {
    /// Carries out an order.
    pub(crate) fn make(order: Order) -> Result<Converted, NoCopy> {
        let Order { text, target, .. } = &order;
        let vouched = Vouched::of(&text.header, &order.sign, order.seal.as_ref());
        let header = text.header.clone().without_ids(&vouched.fields());
        let plan = survey(*target, &header, &text.body)?;
        if plan.is_empty() {
            return Ok(order.unchanged(plan.body()));
        }
        if let Some(others) = vouched.told().filter(|_| !order.limits.breaks_signatures) {
            return Err(NoCopy::Signed(others));
        }
        let anew = header.is_eight_bit() && target.wants_ascii_header();
        if anew && !order.limits.rewrites_header {
            return Err(NoCopy::NotOurs);
        }
        let Written { body, hash, file } = order.write(&plan)?;
        let header = HeaderBlock::parse(plan.header()?.into());
        let header = order.signed(header, &vouched, &hash)?;
        Ok(Converted {
            message: order.message,
            target: *target,
            text: Text { header, body },
            body: order.holds(plan.body()),
            is_same: false,
            _file: file,
        })
    }

    /// Header and body.
    pub(crate) fn text(&self) -> &Text {
        &self.text
    }

    /// True when its header is ASCII whatever the body is.
    pub(crate) fn has_ascii_header(&self) -> bool {
        self.target.wants_ascii_header()
    }

    /// True when it is for hosts of this kind.
    pub(crate) fn is_for(&self, target: Target) -> bool {
        self.target == target
    }
}

impl Order {
    fn unchanged(self, body: BodyType) -> Converted {
        let body = self.holds(body);
        let Order { message, target, text, .. } = self;
        Converted { message, target, text, body, is_same: true, _file: None }
    }

    /// What the copy holds, where a survey found this.
    fn holds(&self, found: BodyType) -> BodyType {
        if self.target.body == BodyType::BinaryMime { self.body } else { found }
    }

    fn write(&self, plan: &Plan) -> Result<Written, NoCopy> {
        let mut rewrite = Rewrite::new(plan)?;
        let mut store = Store::new(self.directory.clone());
        for piece in self.text.body.chunks(PIECE) {
            rewrite.push(&piece?)?;
            store.write(&rewrite.take_output())?;
        }
        rewrite.finish()?;
        store.write(&rewrite.take_output())?;
        Ok(store.finish())
    }

    /// The header with our signatures made again, and our seal.
    fn signed(
        &self,
        header: HeaderBlock,
        vouched: &Vouched,
        body: &BodyHash,
    ) -> Result<HeaderBlock, NoCopy> {
        let fields = self.keys.sign(&self.sign, &header, body, self.now)?;
        let header = header.with_top(&fields.concat());
        let (Some(request), Some(set)) = (&self.seal, &vouched.set) else { return Ok(header) };
        let fields = self.keys.seal_again(request, set, &header, body, self.now)?;
        Ok(header.with_top(&fields))
    }
}

fn survey(target: Target, header: &HeaderBlock, body: &Rope) -> Result<Plan, NoCopy> {
    let mut survey = Survey::new(target, header)?;
    for piece in body.chunks(PIECE) {
        survey.push(&piece?)?;
    }
    Ok(survey.finish()?)
}

/// A body that was written.
struct Written {
    body: Rope,
    hash: BodyHash,
    file: Option<IncomingFile>,
}

/// Takes a body while it is written: in memory as long as it is small.
struct Store {
    directory: PathBuf,
    memory: Vec<u8>,
    file: Option<(File, IncomingFile)>,
    len: u64,
    hasher: BodyHasher,
}

impl Store {
    fn new(directory: PathBuf) -> Store {
        Store { directory, memory: Vec::new(), file: None, len: 0, hasher: BodyHasher::new() }
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.hasher.push(piece);
        self.len += piece.len() as u64;
        if self.file.is_none() {
            self.memory.extend_from_slice(piece);
            if self.memory.len() <= IN_MEMORY {
                return Ok(());
            }
            let path = self.directory.join(format!("{:032x}", rand::random::<u128>()));
            let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
            let incoming = IncomingFile::new(path);
            file.write_all(&std::mem::take(&mut self.memory))?;
            self.file = Some((file, incoming));
            return Ok(());
        }
        match &mut self.file {
            Some((file, _)) => file.write_all(piece),
            None => Ok(()),
        }
    }

    fn finish(self) -> Written {
        let hash = self.hasher.finish();
        match self.file {
            None => Written { body: Rope::from(Bytes::from(self.memory)), hash, file: None },
            Some((file, incoming)) => {
                let body = Rope::stored(Arc::new(file), 0, self.len);
                Written { body, hash, file: Some(incoming) }
            }
        }
    }
}

impl Content for Converted {
    fn len(&self) -> u64 {
        self.text.len()
    }

    fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, SpoolError> {
        let header = self.text.header.as_bytes();
        let body = header.len() as u64 + 2;
        let read = match usize::try_from(offset).ok().filter(|_| offset < body) {
            None => self.text.body.read_at(offset - body, max),
            Some(at) => {
                let start = [header.get(at..).unwrap_or_default(), b"\r\n"].concat();
                // Within the blank line.
                let start = Bytes::from(start).split_off(at.saturating_sub(header.len()));
                let rest = max.saturating_sub(start.len());
                self.text.body.read_at(0, rest).map(|more| match more.is_empty() {
                    true => start.slice(..start.len().min(max)),
                    false => [&start, &more].map(|part| &part[..]).concat().into(),
                })
            }
        };
        read.map_err(|error| SpoolError::NotNow(self.message, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use waypost_mail::header::field;

    use super::*;

    fn order(header: &str, body: Bytes, directory: PathBuf) -> Order {
        Order {
            message: MessageId(1),
            target: Target { body: BodyType::SevenBit, ascii_header: true },
            text: Text {
                header: HeaderBlock::parse(Bytes::copy_from_slice(header.as_bytes())),
                body: Rope::from(body),
            },
            body: BodyType::EightBitMime,
            sign: Vec::new(),
            seal: None,
            keys: Keyring::default(),
            now: Timestamp(0),
            directory,
            limits: Limits { breaks_signatures: false, rewrites_header: true },
        }
    }

    fn all(copy: &Converted, size: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) =
            Some(copy.read_at(all.len() as u64, size).unwrap()).filter(|piece| !piece.is_empty())
        {
            assert!(piece.len() <= size);
            all.extend_from_slice(&piece);
        }
        assert_eq!(all.len() as u64, copy.len());
        all
    }

    #[test]
    fn a_copy_reads_the_same_in_pieces_of_any_size() {
        let body = Bytes::from_static("gr\u{fc}n\r\n".as_bytes());
        let copy = Converted::make(order("A: b\r\n", body, PathBuf::new())).unwrap();
        let whole = all(&copy, 1000);
        assert!(whole.ends_with(b"quoted-printable\r\n\r\ngr=C3=BCn\r\n"));
        for size in 1..whole.len() {
            assert_eq!(all(&copy, size), whole, "in pieces of {size}");
        }
        assert_eq!((copy.body, copy.is_same), (BodyType::SevenBit, false));
    }

    #[test]
    fn a_large_copy_lies_in_a_file_that_goes_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let line = "gr\u{fc}n und immer wieder anders\r\n";
        let body = Bytes::from(line.repeat(40_000));
        let copy = Converted::make(order("A: b\r\n", body, directory.path().to_owned())).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        let whole = all(&copy, PIECE);
        assert_eq!(
            String::from_utf8(whole).unwrap().matches("gr=C3=BCn und immer").count(),
            40_000
        );
        drop(copy);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn signatures_of_others_stand_in_the_way() {
        let signature = String::from_utf8(field("DKIM-Signature", "d=x.example; s=y")).unwrap();
        let body = Bytes::from_static("gr\u{fc}n\r\n".as_bytes());
        let made = |change: fn(&mut Order)| {
            let mut order = order(&signature, body.clone(), PathBuf::new());
            change(&mut order);
            Converted::make(order)
        };
        let refused = made(|_| {}).unwrap_err();
        assert!(refused.to_string().ends_with("(DKIM-Signature of x.example)"), "{refused}");
        assert!(made(|order| order.limits.breaks_signatures = true).is_ok());
        let plain = made(|order| order.text.body = Rope::from(Bytes::from_static(b"green\r\n")));
        assert!(plain.unwrap().is_same, "nothing is changed, so nothing breaks");
    }

    #[test]
    fn a_header_of_others_is_not_written_anew_and_a_copy_never_goes_unsigned() {
        let body = Bytes::from_static(b"x\r\n");
        let mut strange = order("Subject: gr\u{fc}n\r\n", body.clone(), PathBuf::new());
        strange.limits.rewrites_header = false;
        assert!(matches!(Converted::make(strange), Err(NoCopy::NotOurs)));
        let binary = Bytes::from_static(b"bare\nline feeds\r\n");
        let mut strange = order("Subject: gr\u{fc}n\r\n", binary, PathBuf::new());
        strange.limits.rewrites_header = false;
        strange.target = Target { body: BodyType::EightBitMime, ascii_header: false };
        let copy = Converted::make(strange).unwrap();
        assert_eq!(
            copy.text.header.first("Subject").unwrap(),
            "gr\u{fc}n",
            "nothing of it is anew"
        );
        let mut keyless = order("Subject: gr\u{fc}n\r\n", body, PathBuf::new());
        keyless.sign = vec![SignRequest {
            domain: "x.example".into(),
            selector: "s".into(),
            key: "gone".into(),
            headers: Vec::new(),
            oversign: Vec::new(),
            expire_after: None,
        }];
        assert!(matches!(Converted::make(keyless), Err(NoCopy::Unsigned(_))));
    }
}
