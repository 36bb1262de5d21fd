//! The first look at a message: what each of its parts needs.

use waypost_mail::HeaderBlock;
use waypost_smtp::BodyType;

use crate::ascii::ascii_fields;
use crate::clean::{is_foul, is_no_line};
use crate::encode::Sizes;
use crate::media::{Encoding, Kind, Part};
use crate::walk::{Visitor, Walker};
use crate::{MAX_LINE, Target, Unfit};

/// Looks at a message and decides what its copy is like.
#[derive(Debug)]
pub struct Survey {
    walker: Walker,
    look: Look,
    top: Part,
    header: Vec<u8>,
}

/// What becomes of a message.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) target: Target,
    pub(crate) top: Part,
    /// The header as it was.
    pub(crate) header: Vec<u8>,
    /// What becomes of each part, in the order of their headers.
    pub(crate) changes: Vec<Change>,
    is_empty: bool,
    body: BodyType,
}

impl Survey {
    /// Of a message with this header.
    ///
    /// # Errors
    /// The header cannot be what `target` wants.
    pub fn new(target: Target, header: &HeaderBlock) -> Result<Survey, Unfit> {
        let header = header.as_bytes().to_vec();
        let top = Part::read(&header, false, false, true);
        let mut look = Look::new(target);
        let walker = Walker::new(&top, &header, &mut look)?;
        Ok(Survey { walker, look, top, header })
    }

    /// The next piece of the body: what follows the blank line.
    ///
    /// # Errors
    /// There is no such copy.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Unfit> {
        self.walker.push(piece, &mut self.look)
    }

    /// The body is over.
    ///
    /// # Errors
    /// There is no such copy.
    pub fn finish(mut self) -> Result<Plan, Unfit> {
        self.walker.finish(&mut self.look)?;
        let Look { target, mut changes, foul, sealed_foul, body, .. } = self.look;
        if sealed_foul {
            return Err(Unfit::Signed);
        }
        let is_empty = !foul && !changes.iter().any(Change::is_any);
        for change in &mut changes {
            change.version &= change.divides || change.coding != Coding::None;
        }
        Ok(Plan { target, top: self.top, header: self.header, changes, is_empty, body })
    }
}

impl Plan {
    /// True when the message is what was wanted: it can go as it is.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// What the copy holds, but for a target that takes any body: there it may be more.
    pub fn body(&self) -> BodyType {
        self.body
    }

    /// The header of the copy, without the blank line.
    ///
    /// # Errors
    /// None that the survey has not found.
    pub fn header(&self) -> Result<Vec<u8>, Unfit> {
        match self.changes.first() {
            Some(change) if !self.is_empty => change.applied(&self.header),
            _ => Ok(self.header.clone()),
        }
    }
}

/// How content is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Coding {
    #[default]
    None,
    Quoted,
    Base64,
}

/// What becomes of one part.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) coding: Coding,
    /// The word of `Content-Transfer-Encoding`.
    label: Option<&'static str>,
    /// The character set of text that did not say what it is.
    charset: Option<&'static str>,
    /// Its header is to be ASCII.
    ascii: bool,
    /// It is a message that lacks `MIME-Version`, and now needs it.
    version: bool,
    divides: bool,
}

impl Change {
    fn is_any(&self) -> bool {
        self.label.is_some() || self.ascii
    }

    /// True when its header is another.
    pub(crate) fn changes_header(&self) -> bool {
        self.is_any() || self.version
    }

    /// The header of the part as it will be.
    pub(crate) fn applied(&self, header: &[u8]) -> Result<Vec<u8>, Unfit> {
        let mut block = HeaderBlock::parse(header.to_vec().into());
        if self.label.is_some() {
            block = block.without("Content-Transfer-Encoding");
        }
        if self.charset.is_some() {
            block = block.without("Content-Type");
        }
        let kept = block.as_bytes();
        let mut out = if self.ascii { ascii_fields(kept)? } else { kept.to_vec() };
        if !out.is_empty() && !out.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        if self.version {
            out.extend_from_slice(b"MIME-Version: 1.0\r\n");
        }
        if let Some(charset) = self.charset {
            out.extend(format!("Content-Type: text/plain; charset={charset}\r\n").into_bytes());
        }
        if let Some(label) = self.label {
            out.extend(format!("Content-Transfer-Encoding: {label}\r\n").into_bytes());
        }
        Ok(out)
    }
}

/// What was seen of the content of a part.
#[derive(Debug, Default)]
struct Seen {
    eight: bool,
    /// NUL, a bare CR or LF, or a line that is too long.
    lineless: bool,
    sizes: Sizes,
    utf8: Utf8,
}

/// Sees what a message consists of.
#[derive(Debug)]
struct Look {
    target: Target,
    changes: Vec<Change>,
    part: Option<Part>,
    seen: Seen,
    column: usize,
    /// Something beside the parts is to be cleaned.
    foul: bool,
    /// Since the last header.
    foul_lately: bool,
    sealed_foul: bool,
    body: BodyType,
}

impl Look {
    fn new(target: Target) -> Look {
        Look {
            target,
            changes: Vec::new(),
            part: None,
            seen: Seen::default(),
            column: 0,
            foul: false,
            foul_lately: false,
            sealed_foul: false,
            body: BodyType::SevenBit,
        }
    }

    /// What content that was seen needs.
    fn decide(&self, part: &Part, change: &mut Change) -> Result<(), Unfit> {
        let seen = &self.seen;
        let needs = match self.target.body {
            BodyType::SevenBit => seen.eight || seen.lineless,
            BodyType::EightBitMime => seen.lineless,
            BodyType::BinaryMime => false,
        };
        if !needs {
            change.label = change.label.or(self.relabelled(part, seen.eight));
            return Ok(());
        }
        if part.sealed {
            return Err(Unfit::Signed);
        }
        match (&part.kind, &part.encoding) {
            (Kind::Single, Encoding::Coded(coding)) => Err(Unfit::Mislabelled(coding.clone())),
            (Kind::Single, _) => {
                let quoted = part.is_text() && !seen.sizes.favour_base64();
                change.coding = if quoted { Coding::Quoted } else { Coding::Base64 };
                change.label = Some(if quoted { "quoted-printable" } else { "base64" });
                if !part.is_typed {
                    change.charset = Some(seen.charset());
                }
                Ok(())
            }
            _ => Err(Unfit::Composite(part.media.clone())),
        }
    }

    /// The label of content that stays as it is, where the old one says that it is more than the target
    /// takes.
    fn relabelled(&self, part: &Part, eight: bool) -> Option<&'static str> {
        if part.sealed || part.kind == Kind::Opaque {
            return None;
        }
        match (self.target.body, &part.encoding) {
            (BodyType::SevenBit, Encoding::EightBit | Encoding::Binary) => Some("7bit"),
            (BodyType::EightBitMime, Encoding::Binary) if eight => Some("8bit"),
            (BodyType::EightBitMime, Encoding::Binary) => Some("7bit"),
            _ => None,
        }
    }

    fn check_header(&self, part: &Part, header: &[u8]) -> Result<bool, Unfit> {
        if self.target.body != BodyType::BinaryMime && !is_of_lines(header) {
            return Err(Unfit::Structure("the header of a part is not made of lines"));
        }
        if header.is_ascii() || !self.target.wants_ascii_header() {
            return Ok(false);
        }
        if part.sealed {
            return Err(Unfit::Signed);
        }
        ascii_fields(header).map(|_| true)
    }
}

impl Visitor for Look {
    fn header(&mut self, part: &Part, header: &[u8]) -> Result<(), Unfit> {
        let divides = matches!(part.kind, Kind::Multipart(_));
        let ascii = self.check_header(part, header)?;
        let has_version = || {
            let block = HeaderBlock::parse(header.to_vec().into());
            block.count_named("MIME-Version") > 0
        };
        if !ascii && !header.is_ascii() {
            self.body = self.body.max(BodyType::EightBitMime);
        }
        let label = match part.kind {
            Kind::Multipart(_) | Kind::Message => self.relabelled(part, true),
            Kind::Single | Kind::Opaque => None,
        };
        let version = part.begins_message && !part.sealed && !has_version();
        self.changes.push(Change { label, ascii, version, divides, ..Change::default() });
        self.part = Some(part.clone());
        self.seen = Seen::default();
        self.column = 0;
        self.foul_lately = false;
        Ok(())
    }

    fn blank(&mut self) {}

    fn content(&mut self, octets: &[u8]) {
        self.column += octets.len();
        self.seen.lineless |=
            self.column > MAX_LINE || octets.iter().any(|octet| is_no_line(*octet));
        self.seen.eight |= !octets.is_ascii();
        self.seen.sizes.count(octets);
        self.seen.utf8.push(octets);
    }

    fn line_end(&mut self) {
        self.column = 0;
        self.seen.sizes.octets += 2;
        self.seen.utf8.push(b"\n");
    }

    fn end(&mut self, _: bool) -> Result<(), Unfit> {
        let Some(part) = self.part.take() else { return Ok(()) };
        let mut change = self.changes.pop().unwrap_or_default();
        self.decide(&part, &mut change)?;
        if change.coding == Coding::None {
            let holds = match () {
                () if self.seen.lineless => BodyType::BinaryMime,
                () if self.seen.eight => BodyType::EightBitMime,
                () => BodyType::SevenBit,
            };
            self.body = self.body.max(holds);
        }
        self.changes.push(change);
        self.part = None;
        Ok(())
    }

    fn aside(&mut self, octets: &[u8], sealed: bool) {
        self.column += octets.len();
        let lines = self.target.body == BodyType::BinaryMime || self.column <= MAX_LINE;
        if is_foul(octets, self.target.body) || !lines {
            (self.foul, self.foul_lately) = (true, true);
            self.sealed_foul |= sealed;
        } else if !octets.is_ascii() {
            self.body = self.body.max(BodyType::EightBitMime);
        }
    }

    fn aside_end(&mut self) {
        self.column = 0;
    }

    fn delimiter(&mut self, _: &[u8], _: bool) {
        self.column = 0;
    }

    fn delimiter_end(&mut self) {}

    fn undivided(&mut self) -> Result<(), Unfit> {
        match self.foul_lately {
            true => Err(Unfit::Structure("the delimiter of a multipart is nowhere in it")),
            false => Ok(()),
        }
    }
}

impl Seen {
    fn charset(&self) -> &'static str {
        match (self.eight, self.utf8.is_valid()) {
            (false, _) => "us-ascii",
            (true, true) => "utf-8",
            (true, false) => "unknown-8bit",
        }
    }
}

/// Whether octets that come in pieces are UTF-8.
#[derive(Debug, Default)]
struct Utf8 {
    broken: bool,
    /// The beginning of a character.
    begun: Vec<u8>,
}

impl Utf8 {
    fn push(&mut self, octets: &[u8]) {
        if self.broken || (self.begun.is_empty() && octets.is_ascii()) {
            return;
        }
        let begun = std::mem::take(&mut self.begun);
        let joined;
        let text = match begun.is_empty() {
            true => octets,
            false => {
                joined = [&begun, octets].concat();
                &joined
            }
        };
        if let Err(error) = std::str::from_utf8(text) {
            match error.error_len() {
                Some(_) => self.broken = true,
                None => self.begun = text[error.valid_up_to()..].to_vec(),
            }
        }
    }

    fn is_valid(&self) -> bool {
        !self.broken && self.begun.is_empty()
    }
}

/// Lines of no more than 998 octets, without NUL and bare CR or LF.
fn is_of_lines(header: &[u8]) -> bool {
    header.split_inclusive(|octet| *octet == b'\n').all(|line| {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        text.len() <= MAX_LINE && !text.iter().any(|octet| is_no_line(*octet))
    })
}
