use std::{
    fmt::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use crate::mutants;

/// A kind of endpoint that a [`ClientPool`](super::ClientPool) serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    name: &'static str,
    /// The port meant where an endpoint names none; `None` where endpoints are paths of this machine.
    default_port: Option<u16>,
}

impl Scheme {
    /// Endpoints `name://[user[:password]@]host[:port][/path]`.
    pub const fn host(name: &'static str, default_port: u16) -> Self {
        Scheme { name, default_port: Some(default_port) }
    }

    /// Endpoints `name:///absolute/path`.
    pub const fn path(name: &'static str) -> Self {
        Scheme { name, default_port: None }
    }

    /// The endpoint of a path of this machine, made absolute. Links are not followed: where a directory may be known
    /// under several names, make it canonical first.
    ///
    /// # Errors
    /// [`EndpointError::Malformed`] where the path is empty, or the working directory unknown.
    pub fn endpoint_of(&self, path: &Path) -> Result<String, EndpointError> {
        let absolute = std::path::absolute(path).map_err(|_| EndpointError::Malformed {
            endpoint: path.display().to_string(),
            what: "the path cannot be made absolute",
        })?;
        let mut endpoint = format!("{}://", self.name);
        encode(absolute.as_os_str().as_encoded_bytes(), b"/", &mut endpoint);
        Ok(endpoint)
    }
}

/// Why a text names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Not of the form the scheme asks for.
    #[error("endpoint {endpoint:?}: {what}; write scheme://[user@]host[:port][/path] or scheme:///path")]
    Malformed {
        /// The text as given, without what may be a password.
        endpoint: String,
        /// The mistake.
        what: &'static str,
    },
    /// A scheme that the pool does not serve.
    #[error("endpoint {endpoint:?}: the scheme is none of: {known}")]
    UnknownScheme {
        /// The text as given, without what may be a password.
        endpoint: String,
        /// The schemes served.
        known: String,
    },
}

/// What a client is shared by: scheme, auth identity, host, port and path, in the one spelling that all others become.
///
/// ```text
/// Postgres://Al%69ce:secret@DB.Example/ledger/   →  postgres://Alice@db.example:5432/ledger
/// postgres://[::FFFF:10.0.0.1]:05432             →  postgres://10.0.0.1:5432
/// rocksdb:/var//data/./utxo/                     →  rocksdb:///var/data/utxo
/// ```
///
/// Passwords are no part of it, and so in no message. Queries and fragments are refused: settings tell no clients apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(String);

impl Endpoint {
    /// Reads an endpoint of one of `schemes`.
    ///
    /// # Errors
    /// [`EndpointError`], whatever the text; nothing is guessed.
    pub fn parse(text: &str, schemes: &[Scheme]) -> Result<Self, EndpointError> {
        let (name, rest) = text.split_once(':').ok_or("it has no scheme").map_err(malformed(text))?;
        let scheme = schemes.iter().find(|scheme| scheme.name.eq_ignore_ascii_case(name));
        let scheme = scheme.ok_or_else(|| EndpointError::UnknownScheme {
            endpoint: without_password(text),
            known: schemes.iter().map(|scheme| scheme.name).collect::<Vec<_>>().join(", "),
        })?;
        let normal = normal_form(scheme, rest).map_err(malformed(text))?;
        Ok(Endpoint(if mutants::on("pool_compares_spellings") { text.to_owned() } else { normal }))
    }

    /// The normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn malformed(text: &str) -> impl Fn(&'static str) -> EndpointError {
    move |what| EndpointError::Malformed { endpoint: without_password(text), what }
}

/// A text that may not follow any form: whatever could be a user and a password is taken out.
fn without_password(text: &str) -> String {
    let Some((front, host)) = text.rsplit_once('@') else { return text.to_owned() };
    let scheme = front.find("://").and_then(|at| front.get(..at + 3)).unwrap_or("");
    format!("{scheme}…@{host}")
}

fn normal_form(scheme: &Scheme, rest: &str) -> Result<String, &'static str> {
    if rest.contains(['?', '#']) {
        return Err("settings (? or #) are no part of an endpoint");
    }
    let mut out = format!("{}://", scheme.name.to_ascii_lowercase());
    let Some(default_port) = scheme.default_port else {
        let path = rest.strip_prefix("//").unwrap_or(rest);
        if !path.starts_with('/') {
            return Err("its path is not absolute");
        }
        path_into(path, &mut out)?;
        return if out.ends_with("://") { Err("its path is empty") } else { Ok(out) };
    };
    let rest = rest.strip_prefix("//").ok_or("it has no // after the scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, address) = match authority.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, authority),
    };
    if let Some(user) = user {
        // What follows the colon is the password, whatever it contains.
        let user = user.split_once(':').map_or(user, |(user, _)| user);
        encode(&decode(user)?, b"", &mut out);
        out.push('@');
    }
    let (host, port) = split_port(address)?;
    out.push_str(&host_form(host)?);
    // Writing to a string cannot fail.
    let _ = write!(out, ":{}", port.unwrap_or(default_port));
    path_into(path, &mut out)?;
    Ok(out)
}

/// Host, still in its brackets where it has any, and port.
fn split_port(address: &str) -> Result<(&str, Option<u16>), &'static str> {
    let host_end = match address.strip_prefix('[') {
        Some(_) => address.find(']').ok_or("a bracket is open")? + 1,
        None => address.find(':').unwrap_or(address.len()),
    };
    let (host, port) = address.split_at(host_end);
    let Some(port) = port.strip_prefix(':') else {
        return if port.is_empty() { Ok((host, None)) } else { Err("something follows the bracket") };
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits && port != 0 => Ok((host, Some(port))),
        _ => Err("its port is not a number from 1 to 65535 (an IPv6 address needs brackets)"),
    }
}

fn host_form(host: &str) -> Result<String, &'static str> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| "no IPv6 address stands in its brackets")?;
        return Ok(match address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        });
    }
    let name = host.to_ascii_lowercase();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    // A name that ends in a dot is absolute and may mean another host than the one without: both are kept.
    let mut labels = name.strip_suffix('.').unwrap_or(&name).split('.');
    if name.len() > 253 || !labels.all(|label| matches!(label.len(), 1..=63) && label.bytes().all(allowed)) {
        return Err("its host is neither a name of letters, digits, - and _ nor an address");
    }
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or("");
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        // Systems disagree on what 127.1 or 010.0.0.1 mean, so that only the full decimal form is an address.
        return name.parse::<Ipv4Addr>().map(|a| a.to_string()).map_err(|_| "its IPv4 address is not valid");
    }
    Ok(name)
}

fn path_into(path: &str, out: &mut String) -> Result<(), &'static str> {
    for part in path.split('/') {
        let part = decode(part)?;
        match part.as_slice() {
            b"" | b"." => {}
            b".." => return Err("its path contains .."),
            part => {
                out.push('/');
                encode(part, b"", out);
            }
        }
    }
    Ok(())
}

/// Takes the percent signs away. Bytes that must be written with one in an endpoint are refused as they are.
fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err("a % is not followed by two hexadecimal digits"),
            },
            b'@' | b'[' | b']' | b'\\' | b' ' => return Err("one of @ [ ] \\ and blank stands without %"),
            _ => byte,
        };
        if byte.is_ascii_control() {
            return Err("it contains a control character");
        }
        out.push(byte);
    }
    Ok(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Puts the percent signs back, before everything but letters, digits, `-._~` and what is in `keep`.
fn encode(bytes: &[u8], keep: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCHEMES: [Scheme; 3] =
        [Scheme::host("postgres", 5432), Scheme::host("kv", 3000), Scheme::path("rocksdb")];

    fn form(text: &str) -> Result<String, EndpointError> {
        Endpoint::parse(text, &SCHEMES).map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn all_spellings_become_one() {
        let table: [(&str, &[&str]); 7] = [
            (
                "postgres://Alice@db.example:5432/ledger",
                &[
                    "Postgres://Al%69ce:secret@DB.Example/ledger/",
                    "POSTGRES://Alice@db.EXAMPLE:/ledger",
                    "postgres://Alice:@db.example:05432//ledger",
                    "postgres://Alice:p@ss@db.example/./ledger",
                ],
            ),
            ("kv://10.0.0.1:3000", &["kv://10.0.0.1", "KV://[::ffff:10.0.0.1]:3000/", "kv://[::FFFF:a00:1]"]),
            ("kv://[2001:db8::1]:7", &["kv://[2001:0DB8:0:0:0:0:0:1]:7", "kv://[2001:db8::0.0.0.1]:7"]),
            ("kv://a_b-c:3000", &["kv://A_B-C", "kv://a_b-c/"]),
            ("kv://host.:3000", &["kv://HOST.:3000/"]),
            ("rocksdb:///var/data/u%20x", &["rocksdb:/var//data/./u%20x/", "RocksDB:///v%61r/data/u%20x"]),
            ("kv://%40%3A@h:3000/a%2Fb", &["kv://%40%3a:pw@h/a%2fb"]),
        ];
        for (normal, spellings) in table {
            assert_eq!(form(normal).as_deref(), Ok(normal));
            for spelling in spellings {
                assert_eq!(form(spelling).as_deref(), Ok(normal), "{spelling}");
            }
        }
    }

    #[test]
    fn what_differs_stays_apart() {
        let apart = [
            "kv://h",
            "kv://h.",
            "kv://h:1",
            "kv://@h",
            "kv://u@h",
            "kv://U@h",
            "postgres://h:3000",
            "kv://h/a",
            "kv://h/a/b",
            "kv://h/a%2Fb",
            "kv://h/A",
            "rocksdb:///h",
            "rocksdb:///h/a",
        ];
        let forms: std::collections::BTreeSet<_> = apart.iter().map(|text| form(text).unwrap()).collect();
        assert_eq!(forms.len(), apart.len());
    }

    #[test]
    fn whatever_is_malformed_is_an_error() {
        for text in [
            "",
            "host",
            "host:3000",
            "kv:",
            "kv:host",
            "kv:/host",
            "kv://",
            "kv://:3000",
            "kv:///path",
            "kv://u@",
            "kv://h:0",
            "kv://h:65536",
            "kv://h:+1",
            "kv://h:x",
            "kv://::1",
            "kv://[::1",
            "kv://[::1]x",
            "kv://[::1%25lo]",
            "kv://[1.2.3.4]",
            "kv://a..b",
            "kv://.",
            "kv://127.1",
            "kv://1.2.3.256",
            "kv://010.0.0.1",
            "kv://1.2.3.4.",
            "kv://ü",
            "kv://h%41",
            "kv://h?x=1",
            "kv://h#f",
            "kv://h/../x",
            "kv://h/%2e%2E/x",
            "kv://h/a%2",
            "kv://h/%zz",
            "kv://h/a b",
            "kv://h/%00",
            "kv://u/x@h",
            "rocksdb://",
            "rocksdb:///",
            "rocksdb:relative",
            "rocksdb://rel/x",
            "nfs://h",
            "://h",
        ] {
            assert!(form(text).is_err(), "{text:?} was taken for {:?}", form(text));
        }
        let unknown = form("redis://h").unwrap_err();
        assert!(unknown.to_string().contains("postgres, kv, rocksdb"), "{unknown}");
    }

    #[test]
    fn no_message_tells_a_password() {
        for text in ["kv://me:hush@h:x", "me:hush@h", "nfs://me:hush@h", "kv://me:hu/sh@h"] {
            let error = form(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hu"), "{error}");
        }
    }

    #[test]
    fn paths_make_endpoints() {
        let scheme = Scheme::path("rocksdb");
        let of = |path: &str| scheme.endpoint_of(Path::new(path)).unwrap();
        assert_eq!(form(&of("/data/a b/ü%")).as_deref(), Ok("rocksdb:///data/a%20b/%C3%BC%25"));
        assert_eq!(form(&of("/data/x/")), form(&of("/data//x")));
        assert!(of("here").ends_with("/here"));
        assert!(scheme.endpoint_of(Path::new("")).is_err());
    }

    proptest! {
        #[test]
        fn the_normal_form_is_a_fixed_point(text in "(kv|rocksdb)?:?/{0,3}(u(:p)?@)?[a-zA-Z0-9.:%\\[\\]]{0,8}(:[0-9]{0,5})?(/[a-z%0-9./]{0,6})?") {
            if let Ok(normal) = form(&text) {
                prop_assert_eq!(form(&normal), Ok(normal.clone()));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,20}") {
            let _ = form(&text);
            let _ = form(&format!("kv://{text}"));
        }
    }
}
