//! The second look at a message: its copy is written.

use waypost_smtp::BodyType;

use crate::Unfit;
use crate::clean::Cleaner;
use crate::encode::{Base64, Quoted};
use crate::media::Part;
use crate::survey::{Change, Coding, Plan};
use crate::walk::{Visitor, Walker};

/// Writes the body of a copy. Its header is the plan's ([`Plan::header`]).
#[derive(Debug)]
pub struct Rewrite {
    walker: Walker,
    pen: Pen,
}

impl Rewrite {
    /// By this plan.
    ///
    /// # Errors
    /// None that the survey has not found.
    pub fn new(plan: &Plan) -> Result<Rewrite, Unfit> {
        let mut pen = Pen {
            body: plan.target.body,
            changes: plan.changes.clone().into_iter(),
            is_top: true,
            coder: Coder::None,
            cleaner: Cleaner::new(plan.target.body),
            out: Vec::new(),
            tail: [b'\r', b'\n'],
        };
        let walker = Walker::new(&plan.top, &plan.header, &mut pen)?;
        Ok(Rewrite { walker, pen })
    }

    /// The next piece of the body.
    ///
    /// # Errors
    /// None that the survey of the same body has not found.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Unfit> {
        self.walker.push(piece, &mut self.pen)
    }

    /// The body is over.
    ///
    /// # Errors
    /// As for [`Rewrite::push`].
    pub fn finish(&mut self) -> Result<(), Unfit> {
        self.walker.finish(&mut self.pen)?;
        self.pen.note_tail();
        if self.pen.body != BodyType::BinaryMime && self.pen.tail != *b"\r\n" {
            self.pen.out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// What was written since it was asked for last: at most three times what was pushed, and a header.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.pen.note_tail();
        std::mem::take(&mut self.pen.out)
    }
}

/// How the content of the present part is written.
#[derive(Debug)]
enum Coder {
    None,
    Quoted(Quoted),
    Base64(Base64),
}

#[derive(Debug)]
struct Pen {
    body: BodyType,
    changes: std::vec::IntoIter<Change>,
    /// No header has been written yet: the message's own is the caller's.
    is_top: bool,
    coder: Coder,
    cleaner: Cleaner,
    out: Vec<u8>,
    /// The last two octets that were written.
    tail: [u8; 2],
}

impl Pen {
    fn note_tail(&mut self) {
        match self.out.as_slice() {
            [.., first, second] => self.tail = [*first, *second],
            [only] => self.tail = [self.tail[1], *only],
            [] => {}
        }
    }
}

impl Visitor for Pen {
    fn header(&mut self, _: &Part, header: &[u8]) -> Result<(), Unfit> {
        let change = self.changes.next().unwrap_or_default();
        self.coder = match change.coding {
            Coding::None => Coder::None,
            Coding::Quoted => Coder::Quoted(Quoted::default()),
            Coding::Base64 => Coder::Base64(Base64::default()),
        };
        self.cleaner.begin_line();
        if self.is_top {
            return Ok(());
        }
        match change.changes_header() {
            true => self.out.extend(change.applied(header)?),
            false => self.out.extend_from_slice(header),
        }
        Ok(())
    }

    fn blank(&mut self) {
        if !std::mem::take(&mut self.is_top) {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn content(&mut self, octets: &[u8]) {
        match &mut self.coder {
            Coder::None => self.out.extend_from_slice(octets),
            Coder::Quoted(quoted) => quoted.push(octets, &mut self.out),
            Coder::Base64(base64) => base64.push(octets, &mut self.out),
        }
    }

    fn line_end(&mut self) {
        match &mut self.coder {
            Coder::None => self.out.extend_from_slice(b"\r\n"),
            Coder::Quoted(quoted) => quoted.line_end(&mut self.out),
            Coder::Base64(base64) => base64.push(b"\r\n", &mut self.out),
        }
    }

    fn end(&mut self, last: bool) -> Result<(), Unfit> {
        match std::mem::replace(&mut self.coder, Coder::None) {
            Coder::None => {}
            Coder::Quoted(mut quoted) => quoted.finish(last, &mut self.out),
            Coder::Base64(mut base64) => base64.finish(&mut self.out),
        }
        Ok(())
    }

    fn aside(&mut self, octets: &[u8], _: bool) {
        self.cleaner.push(octets, &mut self.out);
    }

    fn aside_end(&mut self) {
        self.cleaner.line_end(&mut self.out);
    }

    fn delimiter(&mut self, octets: &[u8], line: bool) {
        if line {
            self.out.extend_from_slice(b"\r\n");
        }
        self.out.extend_from_slice(octets);
    }

    fn delimiter_end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
        self.cleaner.begin_line();
    }

    fn undivided(&mut self) -> Result<(), Unfit> {
        Ok(())
    }
}
