//! Contracts and topics as people write them: in a command line, in an answer.

use base64::{Engine, prelude::BASE64_STANDARD};
use icecore_ledger::{Error, Result};
use stellar_strkey::{Contract, Strkey};

use crate::xdr::{self, SCVal, Xdr};

const SCV_STRING: u32 = 14;
const SCV_SYMBOL: u32 = 15;
const SCV_ADDRESS: u32 = 18;

/// The longest symbol that the protocol allows.
const MAX_SYMBOL_BYTES: usize = 32;

/// A contract id from its strkey (`C…`) or 64 hexadecimal digits.
///
/// # Errors
/// [`Error::Config`] that says what is accepted.
pub fn parse_contract(text: &str) -> Result<[u8; 32]> {
    if let Ok(contract) = Contract::from_string(text) {
        return Ok(contract.0);
    }
    let bytes = parse_hex(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.ok_or_else(|| bad(text, "a contract id is a strkey C… or 64 hexadecimal digits"))
}

/// The strkey of a contract id.
pub fn format_contract(id: &[u8; 32]) -> String {
    Contract(*id).to_string().as_str().to_owned()
}

/// The raw XDR of a topic, an `ScVal`, from `sym:NAME`, `str:TEXT`, `addr:G…` or `addr:C…`, or from the XDR itself as
/// `hex:…` or in base64.
///
/// # Errors
/// [`Error::Config`] that says what is accepted.
pub fn parse_topic(text: &str) -> Result<Vec<u8>> {
    let xdr = match text.split_once(':') {
        Some(("sym", name)) if name.len() <= MAX_SYMBOL_BYTES => Some(tagged_bytes(SCV_SYMBOL, name)),
        Some(("str", value)) => Some(tagged_bytes(SCV_STRING, value)),
        Some(("addr", address)) => parse_address(address),
        Some(("hex", digits)) => parse_hex(digits),
        _ => BASE64_STANDARD.decode(text).ok(),
    };
    let is_value = |xdr: &Vec<u8>| xdr::read("topic", xdr, |c| SCVal::skip(c).and_then(|()| c.end())).is_ok();
    let forms = "a topic is sym:NAME (at most 32 bytes), str:TEXT, addr:G…, addr:C…, or the XDR of a value as hex:… or \
                 in base64";
    xdr.filter(is_value).ok_or_else(|| bad(text, forms))
}

fn parse_address(text: &str) -> Option<Vec<u8>> {
    let (kind, id): (&[u32], [u8; 32]) = match text.parse().ok()? {
        // An account is a public key, whose own type comes before its bytes.
        Strkey::PublicKeyEd25519(key) => (&[0, 0], key.0),
        Strkey::Contract(contract) => (&[1], contract.0),
        _ => return None,
    };
    let mut xdr = SCV_ADDRESS.to_be_bytes().to_vec();
    xdr.extend(kind.iter().flat_map(|word| word.to_be_bytes()));
    xdr.extend(id);
    Some(xdr)
}

fn tagged_bytes(tag: u32, text: &str) -> Vec<u8> {
    let mut xdr = tag.to_be_bytes().to_vec();
    // A command line cannot hold four gigabytes.
    xdr.extend((text.len() as u32).to_be_bytes());
    xdr.extend(text.as_bytes());
    xdr.resize(xdr.len().next_multiple_of(4), 0);
    xdr
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |c: u8| (c as char).to_digit(16);
    digits.chunks_exact(2).map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}

fn bad(text: &str, what: &str) -> Error {
    Error::Config {
        place: format!("{:?}", text.chars().take(100).collect::<String>()),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use stellar_xdr::{ContractId, Hash, Limits, ReadXdr, ScAddress, ScString, ScVal};

    use super::*;

    fn value(topic: &str) -> ScVal {
        ScVal::from_xdr(parse_topic(topic).unwrap(), Limits::none()).unwrap()
    }

    #[test]
    fn topics_are_the_values_they_name() {
        assert_eq!(value("sym:transfer"), ScVal::Symbol("transfer".try_into().unwrap()));
        assert_eq!(value("str:a:b"), ScVal::String(ScString("a:b".try_into().unwrap())));
        assert_eq!(value("hex:0000000300000007"), ScVal::U32(7));
        assert_eq!(value("AAAAAwAAAAc="), ScVal::U32(7));
        let contract = format_contract(&[7; 32]);
        assert_eq!(
            value(&format!("addr:{contract}")),
            ScVal::Address(ScAddress::Contract(ContractId(Hash([7; 32]))))
        );
        let account = "GAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAWHF";
        assert!(matches!(value(&format!("addr:{account}")), ScVal::Address(ScAddress::Account(_))));
    }

    #[test]
    fn contracts_print_and_parse() {
        let id: [u8; 32] = std::array::from_fn(|i| i as u8);
        assert_eq!(parse_contract(&format_contract(&id)).unwrap(), id);
        let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(parse_contract(&digits).unwrap(), id);
    }

    #[test]
    fn nonsense_is_refused_with_what_would_do() {
        let long = format!("sym:{}", "x".repeat(33));
        for topic in [
            "",
            "transfer",
            "AAAA",
            "hex:",
            "hex:00000003",
            "sim:x",
            "hex:0",
            "hex:zz",
            "addr:S",
            "addr:",
            long.as_str(),
        ] {
            assert!(matches!(parse_topic(topic), Err(Error::Config { .. })), "{topic}");
        }
        for contract in ["", "C", "zz", &"0".repeat(63), &"é".repeat(32)] {
            assert!(matches!(parse_contract(contract), Err(Error::Config { .. })), "{contract}");
        }
    }
}
