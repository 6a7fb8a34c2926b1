//! Where a bus listens. Pure (D-Bus specification, "Server Addresses").

use crate::base::percent::percent_decode;

/// The system bus where nothing else is said.
pub const SYSTEM: &str = "unix:path=/run/dbus/system_bus_socket";

/// A socket of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A file.
    Path(String),
    /// A name of the abstract namespace.
    Abstract(String),
}

/// The addresses of a list that this client can use, in their order.
///
/// # Errors
/// A sentence, when there is none.
pub fn parse(list: &str) -> Result<Vec<Address>, String> {
    let one = |text: &str| {
        let pairs = text.strip_prefix("unix:")?;
        pairs.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let value = percent_decode(value)?;
            match key {
                _ if value.is_empty() => None,
                "path" => Some(Address::Path(value)),
                "abstract" => Some(Address::Abstract(value)),
                _ => None,
            }
        })
    };
    let found: Vec<_> = list.split(';').filter_map(one).collect();
    if found.is_empty() {
        return Err(format!("'{list}' is no address of a bus on this machine"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let path = |text: &str| Address::Path(text.to_owned());
        assert_eq!(parse("unix:path=/a%20b,guid=1"), Ok(vec![path("/a b")]));
        assert_eq!(
            parse("tcp:host=x;unix:guid=1,abstract=z;unix:path=/y"),
            Ok(vec![Address::Abstract("z".into()), path("/y")])
        );
        for bad in [
            "",
            "unix:",
            "unix:path=",
            "tcp:host=localhost,port=1",
            "/run/bus",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(SYSTEM).is_ok());
    }
}
