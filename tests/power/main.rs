//! Writes one document as the agent does, so that a test can let any system call of it fail or
//! be its last (FD-31). Usage: `power KIND DIRECTORY VALUE`; exit code 0 when it is written.

use std::path::Path;
use std::process::ExitCode;

mod kinds;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kind, dir, value] = &words[..] else {
        eprintln!("power KIND DIRECTORY VALUE");
        return ExitCode::from(2);
    };
    // Counts of calls are a thread's own under strace, so that a call may fail every time it is
    // made: whoever tries again for ever is cut off.
    std::thread::spawn(|| {
        std::thread::sleep(std::time::Duration::from_secs(2));
        std::process::exit(3);
    });
    match kinds::write(kind, Path::new(dir), value) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
