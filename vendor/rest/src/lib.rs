//! Gives back the pages of code that a resting program does not need.
//!
//! The kernel maps 64 KiB of a program's file around each place that is used, so that after a
//! while nearly all of it counts as resident. None of these pages is ever written; what is used
//! next comes from the page cache again. A crate of its own, since this is the one call of the
//! agent that the compiler cannot judge.

use std::fs;
use std::ops::Range;

/// Takes the program's code and the constants before it out of this process. Costs some
/// microseconds now, and as much for each place that is used again. Does nothing where
/// `/proc` is not mounted.
pub fn rest() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else {
        return;
    };
    for range in maps.lines().filter_map(code) {
        let (start, bytes) = (range.start as *mut _, range.end - range.start);
        // SAFETY: the range is mapped from a file and never was writable, so that each page of it
        // holds what the file holds, and is read from there again when it is used.
        let _ = unsafe { rustix::mm::madvise(start, bytes, rustix::mm::Advice::LinuxDontNeed) };
    }
}

/// The range of a line of `maps` that is code of a file, or the head of one and its constants.
/// Other parts that cannot be written now may have been (what is relocated at start).
fn code(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, access, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let is_head = access == "r--p" && offset.bytes().all(|digit| digit == b'0');
    let of_file = fields.nth(2).is_some_and(|path| path.starts_with('/'));
    if !of_file || !(access == "r-xp" || is_head) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let at = |text| usize::from_str_radix(text, 16).ok();
    Some(at(start)?..at(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_heads_of_files_and_nothing_that_was_ever_written() {
        let of = |rest| code(&format!("01053000-0127e000 {rest}"));
        let found = Some(0x0105_3000..0x0127_e000);
        assert_eq!(of("r-xp 00052000 08:01 7 /usr/bin/helios"), found);
        assert_eq!(of("r-xp 00052000 08:01 7 /usr/bin/helios (deleted)"), found);
        assert_eq!(of("r--p 00000000 08:01 7 /usr/bin/helios"), found);
        assert_eq!(
            of("r--p 00052000 08:01 7 /usr/bin/helios"),
            None,
            "relocated"
        );
        assert_eq!(of("rw-p 00000000 08:01 7 /usr/bin/helios"), None);
        assert_eq!(of("rwxp 00000000 08:01 7 /usr/bin/helios"), None);
        assert_eq!(of("r-xp 00000000 00:00 0 [vdso]"), None);
        assert_eq!(of("rw-p 00000000 00:00 0"), None);
        assert_eq!(code(""), None);
    }

    #[test]
    fn a_program_goes_on_after_it() {
        // Read back, so that the constants must come again.
        let table: Vec<u8> = include_bytes!("lib.rs").to_vec();
        rest();
        assert_eq!(table, include_bytes!("lib.rs"));
        assert!(fs::read_to_string("/proc/self/maps").is_ok());
    }
}
