//! Tables and times for people.

use std::time::Duration;

use waypost_mail::Timestamp;

pub use waypost_mail::visible::plain;

/// Rows under headings, in columns wide enough.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Table {
        Table { rows: vec![headings.iter().map(|h| (*h).to_owned()).collect()] }
    }

    /// One row more.
    pub fn row(&mut self, cells: Vec<String>) {
        // A cell may come from a stranger: it must not steer the terminal.
        self.rows.push(cells.iter().map(|cell| plain(cell)).collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |c: usize| {
            self.rows.iter().filter_map(|row| row.get(c)).map(|t| t.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line += &format!("{cell:<width$}  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// How long ago or until, in the largest unit that fits: `3m`, `2h`, `4d`.
pub fn span(duration: Duration) -> String {
    match duration.as_secs() {
        s if s >= 2 * 86_400 => format!("{}d", s / 86_400),
        s if s >= 2 * 3600 => format!("{}h", s / 3600),
        s if s >= 120 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// `due` as seen from `now`.
pub fn until(due: Timestamp, now: Timestamp) -> String {
    if due <= now { "now".to_owned() } else { format!("in {}", span(due.since(now))) }
}

/// Octets in the largest unit that fits.
pub fn octets(count: u64) -> String {
    match count {
        n if n >= 10 << 20 => format!("{} MiB", n >> 20),
        n if n >= 10 << 10 => format!("{} KiB", n >> 10),
        n => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_steers_the_terminal() {
        let mut table = Table::new(&["id", "why"]);
        table.row(vec!["long-one".into(), "a\x1b[2Jb".into()]);
        assert_eq!(table.to_string(), "id        why\nlong-one  a [2Jb\n");
    }
}
