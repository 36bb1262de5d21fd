//! The structure of a message, found while its body goes by (RFC 2046 §5.1.1).

use memchr::memchr;

use crate::media::{Kind, Part};
use crate::{MAX_DEPTH, MAX_LINE, MAX_PART_HEADER, MAX_PARTS, Unfit};

/// So much of a line is looked at before it counts as content: no delimiter is longer.
const LINE_START: usize = 1024;

/// Hears what the walker finds, in the order of the octets. All of them together are the body.
pub(crate) trait Visitor {
    /// The header of another part, without the blank line that may follow it.
    fn header(&mut self, part: &Part, header: &[u8]) -> Result<(), Unfit>;
    /// The blank line behind a header.
    fn blank(&mut self);
    /// Octets of the content of the part whose header came last; a CR or LF among them is a bare one.
    fn content(&mut self, octets: &[u8]);
    /// A line of this content ends, and another begins or the message is over.
    fn line_end(&mut self);
    /// This content is over. What follows is a delimiter, which brings its own line end; or nothing, when
    /// it is the `last`.
    fn end(&mut self, last: bool) -> Result<(), Unfit>;
    /// Octets before the first or behind the last delimiter of a multipart, which nobody reads; a
    /// signature within the message covers them when they are `sealed`.
    fn aside(&mut self, octets: &[u8], sealed: bool);
    /// The end of a line of these.
    fn aside_end(&mut self);
    /// A delimiter, without its CRLF; `line` is true when a line ends before it.
    fn delimiter(&mut self, octets: &[u8], line: bool);
    /// The end of the line of a delimiter.
    fn delimiter_end(&mut self);
    /// A multipart is over in which there was no part.
    fn undivided(&mut self) -> Result<(), Unfit>;
}

/// A multipart that is open.
#[derive(Debug)]
struct Level {
    boundary: Vec<u8>,
    digest: bool,
    sealed: bool,
    /// Multiparts and messages around its parts.
    depth: usize,
    /// It has parts.
    divided: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Header,
    Content,
    Aside,
}

/// Takes the octets behind the blank line of a message.
#[derive(Debug)]
pub(crate) struct Walker {
    levels: Vec<Level>,
    at: At,
    /// The line so far, where it is not yet known what it is.
    line: Vec<u8>,
    /// The beginning of this line was given on already.
    in_line: bool,
    /// A line ended whose CRLF was not given on: it may belong to a delimiter.
    line_end: bool,
    header: Vec<u8>,
    /// Of the part whose header comes now.
    digest: bool,
    sealed: bool,
    depth: usize,
    parts: usize,
    /// The header that comes is that of an enclosed message.
    begins_message: bool,
    /// What lies beside parts now is covered by a signature.
    aside_sealed: bool,
}

impl Walker {
    /// Behind the header of `top`, of which the visitor has not yet heard.
    pub(crate) fn new(
        top: &Part,
        header: &[u8],
        visitor: &mut impl Visitor,
    ) -> Result<Walker, Unfit> {
        let mut walker = Walker {
            levels: Vec::new(),
            at: At::Header,
            line: Vec::new(),
            in_line: false,
            line_end: false,
            header: Vec::new(),
            digest: false,
            sealed: false,
            depth: 0,
            parts: 1,
            begins_message: false,
            aside_sealed: false,
        };
        visitor.header(top, header)?;
        visitor.blank();
        walker.enter(top)?;
        Ok(walker)
    }

    /// The next piece.
    pub(crate) fn push(&mut self, mut rest: &[u8], to: &mut impl Visitor) -> Result<(), Unfit> {
        while let Some(lf) = memchr(b'\n', rest) {
            let (piece, behind) = rest.split_at(lf + 1);
            rest = behind;
            if self.line.is_empty() {
                match piece.strip_suffix(b"\r\n") {
                    Some(line) => self.line(line, to)?,
                    None => self.hold(piece, to)?,
                }
            } else {
                self.line.extend_from_slice(piece);
                if self.line.ends_with(b"\r\n") {
                    let mut line = std::mem::take(&mut self.line);
                    self.line(&line[..line.len() - 2], to)?;
                    line.clear();
                    self.line = line;
                } else {
                    self.hold(&[], to)?;
                }
            }
        }
        self.hold(rest, to)
    }

    /// The message is over.
    pub(crate) fn finish(&mut self, to: &mut impl Visitor) -> Result<(), Unfit> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.last_line(&line, to)?;
        } else if self.line_end && self.at != At::Header {
            self.release(to);
        }
        match self.at {
            At::Header => self.end_header(false, true, to),
            At::Content => to.end(true),
            At::Aside => self.check_divided(to),
        }
    }

    /// Keeps the beginning of a line until it is known what the line is; gives on what is longer than
    /// any delimiter.
    fn hold(&mut self, piece: &[u8], to: &mut impl Visitor) -> Result<(), Unfit> {
        self.line.extend_from_slice(piece);
        if self.at == At::Header {
            // With room for the CRLF that may come.
            let len = self.header.len() + self.line.len();
            return if len > MAX_PART_HEADER + 2 { Err(HEADER_TOO_LONG) } else { Ok(()) };
        }
        if self.line.len() <= LINE_START {
            return Ok(());
        }
        let mut line = std::mem::take(&mut self.line);
        let cr = line.ends_with(b"\r");
        self.text(&line[..line.len() - usize::from(cr)], to);
        self.in_line = true;
        line.clear();
        line.extend(cr.then_some(b'\r'));
        self.line = line;
        Ok(())
    }

    /// A whole line, or the rest of one, without its CRLF.
    fn line(&mut self, line: &[u8], to: &mut impl Visitor) -> Result<(), Unfit> {
        if !std::mem::take(&mut self.in_line) {
            if let Some((level, closes)) = self.delimiter(line) {
                self.cross(level, closes, line, to)?;
                to.delimiter_end();
                return Ok(());
            }
            if self.at == At::Header {
                return self.header_line(line, to);
            }
        }
        self.text(line, to);
        self.line_end = true;
        Ok(())
    }

    /// The last line, which no CRLF ends.
    fn last_line(&mut self, line: &[u8], to: &mut impl Visitor) -> Result<(), Unfit> {
        let delimiter = if self.in_line { None } else { self.delimiter(line) };
        match delimiter {
            Some((level, closes)) => self.cross(level, closes, line, to)?,
            None if self.at == At::Header => self.header.extend_from_slice(line),
            None => self.text(line, to),
        }
        Ok(())
    }

    /// Text whose line does not end here.
    fn text(&mut self, text: &[u8], to: &mut impl Visitor) {
        if self.line_end {
            self.release(to);
        }
        self.give(text, to);
    }

    fn give(&self, octets: &[u8], to: &mut impl Visitor) {
        match self.at {
            _ if octets.is_empty() => {}
            At::Aside => to.aside(octets, self.aside_sealed),
            At::Content | At::Header => to.content(octets),
        }
    }

    /// The line end that was kept belongs to what is there.
    fn release(&mut self, to: &mut impl Visitor) {
        self.line_end = false;
        match self.at {
            At::Aside => to.aside_end(),
            At::Content | At::Header => to.line_end(),
        }
    }

    fn header_line(&mut self, line: &[u8], to: &mut impl Visitor) -> Result<(), Unfit> {
        if line.is_empty() {
            return self.end_header(true, false, to);
        }
        if self.header.len() + line.len() > MAX_PART_HEADER {
            return Err(HEADER_TOO_LONG);
        }
        self.header.extend_from_slice(line);
        self.header.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn end_header(&mut self, blank: bool, last: bool, to: &mut impl Visitor) -> Result<(), Unfit> {
        let header = std::mem::take(&mut self.header);
        let part = Part::read(&header, self.digest, self.sealed, self.begins_message);
        to.header(&part, &header)?;
        if !blank {
            // A header alone has no content, whatever it says it has.
            self.at = At::Content;
            return to.end(last);
        }
        to.blank();
        self.enter(&part)
    }

    /// Goes on with what the part whose header came last consists of.
    fn enter(&mut self, part: &Part) -> Result<(), Unfit> {
        if matches!(part.kind, Kind::Multipart(_) | Kind::Message) && self.depth >= MAX_DEPTH {
            return Err(Unfit::Structure("parts lie within parts more than 50 deep"));
        }
        match &part.kind {
            Kind::Multipart(boundary) => {
                self.depth += 1;
                self.aside_sealed = part.sealed || part.is_signed();
                self.levels.push(Level {
                    boundary: boundary.clone(),
                    digest: part.is_digest(),
                    sealed: self.aside_sealed,
                    depth: self.depth,
                    divided: false,
                });
                self.at = At::Aside;
            }
            Kind::Message => {
                self.depth += 1;
                (self.digest, self.sealed, self.begins_message) = (false, part.sealed, true);
                self.begin_part()?;
            }
            Kind::Single | Kind::Opaque => self.at = At::Content,
        }
        Ok(())
    }

    fn begin_part(&mut self) -> Result<(), Unfit> {
        self.at = At::Header;
        self.parts += 1;
        match self.parts > MAX_PARTS {
            true => Err(Unfit::Structure("it has more than 10,000 parts")),
            false => Ok(()),
        }
    }

    /// The innermost multipart ends, and what lies beside parts is the last that was seen.
    fn check_divided(&self, to: &mut impl Visitor) -> Result<(), Unfit> {
        match self.levels.last() {
            Some(level) if !level.divided => to.undivided(),
            _ => Ok(()),
        }
    }

    /// Which multipart this line divides, and whether it ends it.
    fn delimiter(&self, line: &[u8]) -> Option<(usize, bool)> {
        let text = line.strip_prefix(b"--").filter(|_| line.len() <= MAX_LINE)?;
        let divides = |level: &Level| {
            let rest = text.strip_prefix(level.boundary.as_slice())?;
            let (rest, closes) = match rest.strip_prefix(b"--") {
                Some(rest) => (rest, true),
                None => (rest, false),
            };
            rest.iter().all(|octet| matches!(octet, b' ' | b'\t')).then_some(closes)
        };
        let mut levels = self.levels.iter().enumerate().rev();
        levels.find_map(|(index, level)| Some((index, divides(level)?)))
    }

    /// Ends whatever lies within the multipart at `level`, and begins its next part or its end.
    fn cross(
        &mut self,
        level: usize,
        closes: bool,
        line: &[u8],
        to: &mut impl Visitor,
    ) -> Result<(), Unfit> {
        match self.at {
            At::Header => self.end_header(false, false, to)?,
            At::Content => to.end(false)?,
            At::Aside if closes || level + 1 < self.levels.len() => self.check_divided(to)?,
            At::Aside => {}
        }
        to.delimiter(line, std::mem::take(&mut self.line_end));
        self.levels.truncate(level + 1);
        if closes {
            self.aside_sealed = self.levels.pop().is_some_and(|level| level.sealed);
            self.at = At::Aside;
            return Ok(());
        }
        if let Some(level) = self.levels.last_mut() {
            level.divided = true;
            (self.digest, self.sealed, self.depth) = (level.digest, level.sealed, level.depth);
            self.begins_message = false;
        }
        self.begin_part()
    }
}

const HEADER_TOO_LONG: Unfit = Unfit::Structure("the header of a part is longer than 64 KiB");
