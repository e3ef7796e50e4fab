//! Signatures of calls, as [Standard Webhooks](https://www.standardwebhooks.com) has them: what is signed, by whom it is
//! believed, and for how long. Whoever signs or verifies says what time it is.
//!
//! What is signed is an id, a moment and the body. Bodies repeat between operations, so the id is
//! `gid~branch~operation`, and it is what a participant that verifies goes by.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{BranchId, Gid, Operation, limits};

/// A secret that both sides have: `whsec_` and 24 to 64 bytes in base64.
///
/// ```
/// use tcc_core::signature::SigningKey;
///
/// let key: SigningKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// assert_eq!(format!("{key:?}"), "SigningKey(…)");
/// # Ok::<(), tcc_core::signature::BadKey>(())
/// ```
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

/// A text that is no key. It is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is whsec_ and 24 to 64 bytes in base64")]
pub struct BadKey;

impl FromStr for SigningKey {
    type Err = BadKey;
    fn from_str(text: &str) -> Result<Self, BadKey> {
        let bytes =
            text.strip_prefix("whsec_").and_then(|base64| STANDARD.decode(base64).ok()).ok_or(BadKey)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(BadKey);
        }
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| BadKey)
    }
}

/// Never shows the secret.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// Reads keys, one a line; empty lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// When a line is none, or there is none at all.
    pub fn read_all(text: &str) -> Result<Vec<Self>, BadKey> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<Self> = lines.map(str::parse).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(BadKey) } else { Ok(keys) }
    }

    fn over(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

/// What a call's id is: it names what is asked, once and for all of its repeats.
#[must_use]
pub fn id(gid: &Gid, branch: Option<&BranchId>, operation: Operation) -> String {
    format!("{gid}~{}~{operation}", branch.map_or("", BranchId::as_str))
}

/// The signatures of a call, one by each key, as they stand in one header. While keys are changed there are two: whoever
/// verifies has one of them.
///
/// `timestamp` is in seconds since 1970.
#[must_use]
pub fn sign(keys: &[SigningKey], id: &str, timestamp: i64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    let signatures = keys.iter().map(|key| {
        let signature = key.over(id, &timestamp, body).finalize().into_bytes();
        format!("v1,{}", STANDARD.encode(signature))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

/// What came with a call: three headers.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// [`protocol::WEBHOOK_ID`](crate::protocol::WEBHOOK_ID)
    pub id: &'a str,
    /// [`protocol::WEBHOOK_TIMESTAMP`](crate::protocol::WEBHOOK_TIMESTAMP)
    pub timestamp: &'a str,
    /// [`protocol::WEBHOOK_SIGNATURE`](crate::protocol::WEBHOOK_SIGNATURE)
    pub signatures: &'a str,
}

/// What a signed id names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The transaction.
    pub gid: Gid,
    /// The branch; `None` for a check.
    pub branch: Option<BranchId>,
    /// What is asked.
    pub operation: Operation,
}

/// Why a call is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// No key made any of its signatures.
    #[error("no known key made its signature")]
    Unknown,
    /// It was signed too long ago, or too far ahead of this clock.
    #[error("it was signed at another time")]
    Untimely,
    /// It is signed, and its id names no call.
    #[error("its id names no call")]
    Id,
}

impl Presented<'_> {
    /// Whether the moment is near enough, at `now` in seconds since 1970; to be asked before a body is waited for.
    ///
    /// # Errors
    /// [`BadSignature::Untimely`].
    pub fn is_timely(&self, now: i64) -> Result<(), BadSignature> {
        // Of a number that was spelled in another way nobody knows what was signed.
        let is_number =
            !self.timestamp.is_empty() && self.timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let signed: i64 = self.timestamp.parse().ok().filter(|_| is_number).ok_or(BadSignature::Untimely)?;
        let near = now.abs_diff(signed) <= limits::SIGNATURE_TOLERANCE.as_secs();
        if near { Ok(()) } else { Err(BadSignature::Untimely) }
    }

    /// What the call asks for, if one of the keys signed it and the body, and not too long ago. It takes the same time
    /// wherever a wrong signature differs.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(&self, keys: &[SigningKey], body: &[u8], now: i64) -> Result<Signed, BadSignature> {
        self.is_timely(now)?;
        let signatures: Vec<Vec<u8>> = self
            .signatures
            .split(' ')
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .take(limits::SIGNATURES)
            .collect();
        let known = keys.iter().any(|key| {
            let mac = key.over(self.id, self.timestamp, body);
            signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
        });
        if !known {
            return Err(BadSignature::Unknown);
        }
        let mut parts = self.id.split('~');
        let (Some(gid), Some(branch), Some(operation), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadSignature::Id);
        };
        let branch =
            if branch.is_empty() { None } else { Some(branch.parse().map_err(|_| BadSignature::Id)?) };
        let gid = gid.parse().map_err(|_| BadSignature::Id)?;
        let operation = operation.parse().map_err(|()| BadSignature::Id)?;
        Ok(Signed { gid, branch, operation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const NOW: i64 = 1_614_265_330;

    fn keys(texts: &[&str]) -> Vec<SigningKey> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The vector that the libraries of Standard Webhooks are tested with.
    #[test]
    fn the_vector_of_standard_webhooks_holds() {
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(&keys(&[KEY]), id, NOW, body), signature);
        let presented = Presented { id, timestamp: "1614265330", signatures: signature };
        // It is right, and names no call of ours.
        assert_eq!(presented.verify(&keys(&[KEY]), body, NOW), Err(BadSignature::Id));
        assert_eq!(presented.verify(&keys(&[OTHER]), body, NOW), Err(BadSignature::Unknown));
    }

    #[test]
    fn a_signed_id_names_the_call_and_a_check_has_no_branch() {
        let (gid, branch): (Gid, BranchId) = ("a/b:c-d_e".parse().unwrap(), "x/y".parse().unwrap());
        for (branch, operation) in [
            (Some(&branch), Operation::Try),
            (Some(&branch), Operation::Confirm),
            (Some(&branch), Operation::Cancel),
            (None, Operation::Check),
        ] {
            let id = id(&gid, branch, operation);
            let signatures = sign(&keys(&[KEY]), &id, NOW, b"body");
            let presented = Presented { id: &id, timestamp: &NOW.to_string(), signatures: &signatures };
            let signed = presented.verify(&keys(&[KEY]), b"body", NOW).unwrap();
            assert_eq!(signed, Signed { gid: gid.clone(), branch: branch.cloned(), operation });
        }
    }

    #[test]
    fn while_keys_change_either_side_may_be_first() {
        let id = "g~b~try";
        let (old, new, both) = (keys(&[KEY]), keys(&[OTHER]), keys(&[KEY, OTHER]));
        for (signs, verifies, believed) in [
            (&old, &both, true),
            (&both, &old, true),
            (&both, &new, true),
            (&new, &both, true),
            (&old, &new, false),
        ] {
            let signatures = sign(signs, id, NOW, b"");
            let presented = Presented { id, timestamp: &NOW.to_string(), signatures: &signatures };
            assert_eq!(presented.verify(verifies, b"", NOW).is_ok(), believed, "{signatures}");
        }
    }

    #[test]
    fn whatever_is_changed_is_not_believed() {
        let (id, timestamp) = ("g~b~confirm", NOW.to_string());
        let signatures = sign(&keys(&[KEY]), id, NOW, b"body");
        let right = Presented { id, timestamp: &timestamp, signatures: &signatures };
        let verify = |presented: Presented<'_>, body: &[u8]| presented.verify(&keys(&[KEY]), body, NOW);
        assert!(verify(right, b"body").is_ok());
        assert_eq!(verify(right, b"Body"), Err(BadSignature::Unknown));
        assert_eq!(verify(right, b""), Err(BadSignature::Unknown));
        for id in ["g~b~cancel", "g~b~try", "h~b~confirm", "g~c~confirm", "g~b~confirm.", ""] {
            assert_eq!(verify(Presented { id, ..right }, b"body"), Err(BadSignature::Unknown), "{id}");
        }
        let (later, unpadded) = ((NOW + 1).to_string(), signatures.trim_end_matches('=').to_owned());
        assert_eq!(verify(Presented { timestamp: &later, ..right }, b"body"), Err(BadSignature::Unknown));
        let of_another_kind = signatures.replace("v1,", "v1a,");
        let cut = &signatures[..signatures.len() - 4];
        for signatures in ["", "v1,", "v1", " ", &unpadded, &of_another_kind, cut, &signatures[3..]] {
            let presented = Presented { signatures, ..right };
            assert_eq!(verify(presented, b"body"), Err(BadSignature::Unknown), "{signatures}");
        }
        // One that is not understood stands in no other's way; but nobody has to look at all that anybody sends.
        let among = format!("v2,x v1,AAAA {signatures}");
        assert!(verify(Presented { signatures: &among, ..right }, b"body").is_ok());
        let flood = format!("{}{signatures}", "v1,AAAA ".repeat(limits::SIGNATURES));
        assert_eq!(verify(Presented { signatures: &flood, ..right }, b"body"), Err(BadSignature::Unknown));
    }

    #[test]
    fn a_signature_is_believed_for_five_minutes_either_way() {
        let id = "g~b~try";
        let tolerance = i64::try_from(limits::SIGNATURE_TOLERANCE.as_secs()).unwrap();
        assert_eq!(tolerance, 300, "as the standard's libraries have it");
        for (off, believed) in [
            (0, true),
            (tolerance, true),
            (-tolerance, true),
            (tolerance + 1, false),
            (-tolerance - 1, false),
        ] {
            let signatures = sign(&keys(&[KEY]), id, NOW + off, b"");
            let presented = Presented { id, timestamp: &(NOW + off).to_string(), signatures: &signatures };
            let verified = presented.verify(&keys(&[KEY]), b"", NOW);
            assert_eq!(verified.is_ok(), believed, "{off}: {verified:?}");
        }
        for timestamp in ["", "x", "-1", "+1614265330", " 1614265330", "1614265330.0", "99999999999999999999"]
        {
            let presented = Presented { id, timestamp, signatures: "" };
            assert_eq!(presented.is_timely(NOW), Err(BadSignature::Untimely), "{timestamp:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!", &short, &long] {
            assert_eq!(text.parse::<SigningKey>().unwrap_err(), BadKey, "{text}");
        }
        let all = SigningKey::read_all(&format!("# of this year\n{KEY}\n\n  {OTHER}  \n")).unwrap();
        assert_eq!(all.len(), 2);
        for text in ["", "# none\n", &format!("{KEY}\nx")] {
            assert!(SigningKey::read_all(text).is_err(), "{text}");
        }
    }
}
