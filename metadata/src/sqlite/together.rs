//! Statements that often follow each other, joined when the program is compiled: SQLite's thread runs them in one
//! hand-over. Their parameters are counted on, since sqlx binds `$4` to the fourth value of all.

use super::{blobs, history, manifests, references, uploads};

/// The parts, and what they are together; a sequence stands before those that it begins with.
pub(super) static TOGETHER: &[(&[&str], &str)] = &[
    (END_OF_UPLOAD, END_OF_UPLOAD_JOINED.text()),
    (LINKS_AND_TAG, LINKS_AND_TAG_JOINED.text()),
    (TAG, TAG_JOINED.text()),
    (DELETED_MANIFEST, DELETED_MANIFEST_JOINED.text()),
];

const END_OF_UPLOAD: &[&str] = &[blobs::GRANT, uploads::DELETE];
static END_OF_UPLOAD_JOINED: Joined = Joined::of(END_OF_UPLOAD);

const LINKS_AND_TAG: &[&str] = &[manifests::INSERT_BLOBS, references::SET_TAG, references::RECORD_MOVE];
static LINKS_AND_TAG_JOINED: Joined = Joined::of(LINKS_AND_TAG);

const TAG: &[&str] = &[references::SET_TAG, references::RECORD_MOVE];
static TAG_JOINED: Joined = Joined::of(TAG);

const DELETED_MANIFEST: &[&str] = &[
    references::RECORD_DELETED,
    references::DELETE_OF_MANIFEST,
    history::KEEP_DELETED,
    history::KEEP_BLOBS,
    manifests::DELETE,
];
static DELETED_MANIFEST_JOINED: Joined = Joined::of(DELETED_MANIFEST);

/// Room for the longest: what does not fit does not compile.
const ROOM: usize = 4096;

struct Joined {
    bytes: [u8; ROOM],
    length: usize,
    parameters: usize,
}

impl Joined {
    const fn of(parts: &[&str]) -> Self {
        let mut joined = Self { bytes: [0; ROOM], length: 0, parameters: 0 };
        let mut part = 0;
        while part < parts.len() {
            if part > 0 {
                joined.push(b';');
                joined.push(b' ');
            }
            joined.append(parts[part].as_bytes());
            part += 1;
        }
        joined
    }

    /// Appends a statement, whose `$1` becomes `$4` where three parameters stand before it.
    const fn append(&mut self, sql: &[u8]) {
        let before = self.parameters;
        let mut at = 0;
        while at < sql.len() {
            self.push(sql[at]);
            at += 1;
            if sql[at - 1] == b'$' {
                let mut number = 0;
                while at < sql.len() && sql[at].is_ascii_digit() {
                    number = 10 * number + (sql[at] - b'0') as usize;
                    at += 1;
                }
                self.push_number(before + number);
                if before + number > self.parameters {
                    self.parameters = before + number;
                }
            }
        }
    }

    const fn push_number(&mut self, number: usize) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        self.push(b'0' + (number % 10) as u8);
    }

    const fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    const fn text(&self) -> &str {
        match str::from_utf8(self.bytes.split_at(self.length).0) {
            Ok(text) => text,
            Err(_) => panic!("every statement is text"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_counted_on() {
        let joined = Joined::of(&["VALUES ($1, $2, $9, $2)", "a = $1 AND b=$2", "c", "$1"]);
        assert_eq!(joined.text(), "VALUES ($1, $2, $9, $2); a = $10 AND b=$11; c; $12");
    }

    #[test]
    fn a_sequence_stands_before_those_that_it_begins_with() {
        for (position, (parts, _)) in TOGETHER.iter().enumerate() {
            assert!(TOGETHER[..position].iter().all(|(earlier, _)| !parts.starts_with(earlier)));
        }
    }
}
