//! The legacy supervisor's settings, read and changed by a program in its own container, where
//! its runtime and its database's module are (remote-api 8.1). Pure.

use crate::world::takeover::{Output, Settings};

/// The container's command. What is to be set comes in [`VARIABLE`]; without it the settings
/// are printed. Values are bound, never part of the SQL (R-TKO-3).
pub const COMMAND: [&str; 3] = ["node", "-e", PROGRAM];

/// Holds the new settings as JSON; `null` for a row that is to go.
pub const VARIABLE: &str = "HELIOS_SETTINGS";

/// Waits for whoever else writes, and ends by itself before anybody loses patience with it.
const PROGRAM: &str = r"
const fail = (error) => { console.error(error.message); process.exit(1); };
setTimeout(() => fail(new Error('the database does not answer')), 25000).unref();
const { Database, OPEN_READWRITE } = require('sqlite3');
const keys = ['apiEndpointOverride', 'listenPortOverride'];
const text = process.env.HELIOS_SETTINGS;
const db = new Database('/data/database.sqlite', OPEN_READWRITE, (error) => error && fail(error));
db.configure('busyTimeout', 10000);
const change = (wanted) => db.serialize(() => {
  const run = (sql, ...values) => db.run(sql, values, (error) => error && fail(error));
  run('BEGIN IMMEDIATE');
  for (const key of keys) {
    if (wanted[key] === null) run('DELETE FROM config WHERE key = ?', key);
    else run('INSERT INTO config (key, value) VALUES (?, ?) ' +
      'ON CONFLICT (key) DO UPDATE SET value = excluded.value', key, wanted[key]);
  }
  run('COMMIT');
  db.close((error) => error ? fail(error) : console.log('true'));
});
const show = () => db.all('SELECT key, value FROM config WHERE key IN (?, ?)', keys, (error, rows) => {
  if (error) fail(error);
  const found = Object.fromEntries(keys.map((key) => [key, null]));
  for (const { key, value } of rows) found[key] = value === null ? null : String(value);
  console.log(JSON.stringify(found));
});
text ? change(JSON.parse(text)) : show();
";

/// The environment in which [`COMMAND`] changes the settings.
#[must_use]
pub fn change(settings: &Settings) -> String {
    // Two texts: there is nothing that could fail.
    let json = serde_json::to_string(settings).unwrap_or_default();
    format!("{VARIABLE}={json}")
}

/// What [`COMMAND`] printed as settings.
///
/// # Errors
/// A sentence, when it failed or printed something else (R-TKO-10).
pub fn read(output: &Output) -> Result<Settings, String> {
    let text = printed(output)?;
    crate::base::json::from_str(text.trim()).map_err(|_| odd(&text))
}

/// Whether [`COMMAND`] changed them.
///
/// # Errors
/// A sentence, when it failed or printed something else (R-TKO-10).
pub fn changed(output: &Output) -> Result<(), String> {
    let text = printed(output)?;
    if text.trim() == "true" {
        Ok(())
    } else {
        Err(odd(&text))
    }
}

fn printed(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.code {
        0 => Ok(text(&output.stdout)),
        code => {
            let said = [text(&output.stderr), text(&output.stdout)].concat();
            let said = words(&said);
            let why = if said.is_empty() { "nothing" } else { &said };
            Err(format!(
                "its program ended with code {code} and said: {why}"
            ))
        }
    }
}

fn odd(text: &str) -> String {
    format!("its program printed what is no answer: '{}'", words(text))
}

/// On one line, and no more than a person reads.
fn words(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i64, stdout: &str, stderr: &str) -> Output {
        let (stdout, stderr) = (stdout.as_bytes().to_vec(), stderr.as_bytes().to_vec());
        Output {
            code,
            stdout,
            stderr,
        }
    }

    #[test]
    fn s_tko_11_what_the_program_says_is_understood_or_an_error() {
        let none = Settings::default();
        let both = Settings {
            endpoint: Some("http://127.0.0.1:48484/".into()),
            port: Some("48480".into()),
        };
        let text = serde_json::to_string(&both).unwrap();
        #[rustfmt::skip]
        let reads = [
            (output(0, &format!(" {text}\n"), "a warning"), Ok(both.clone())),
            (output(0, r#"{"apiEndpointOverride":null,"listenPortOverride":null}"#, ""), Ok(none)),
            (output(0, "garbage\nand more", ""), Err("printed what is no answer: 'garbage and more'")),
            (output(0, "", ""), Err("printed what is no answer: ''")),
            (output(1, "", "SQLITE_BUSY: database\n is locked\n"), Err("code 1 and said: SQLITE_BUSY: database is locked")),
            (output(126, "exec: \"node\": not found", ""), Err("code 126 and said: exec: \"node\": not found")),
            (output(137, "", ""), Err("code 137 and said: nothing")),
        ];
        for (output, want) in reads {
            match (read(&output), want) {
                (Ok(found), Ok(want)) => assert_eq!(found, want),
                (Err(said), Err(want)) => assert!(said.contains(want), "{said}"),
                (got, want) => panic!("{got:?}, not {want:?}"),
            }
        }
        assert_eq!(changed(&output(0, "true\n", "")), Ok(()));
        for output in [
            output(0, "false", ""),
            output(0, "", ""),
            output(3, "true", ""),
        ] {
            assert!(changed(&output).is_err(), "{output:?}");
        }
        assert_eq!(change(&both), format!("{VARIABLE}={text}"));
    }
}
