//! Columns that only this gateway reads: AES-256-GCM, and each is bound to its row.
//!
//! Version ‖ key id ‖ nonce ‖ what it says and the tag. The table, what names the row, and the version are authenticated with
//! it, so that a column opens in no other row.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use crate::identity::login::keys::{KEY_ID, Keys, NoKey, Purpose, key_id};

const VERSION: u8 = 1;
const NONCE: usize = 12;

/// Seals and opens the column of one table.
pub(in crate::identity::login) struct ColumnSealer {
    table: &'static str,
    /// The first seals.
    keys: Box<[([u8; KEY_ID], RandomizedNonceKey)]>,
}

impl ColumnSealer {
    pub(super) fn new(keys: &Keys, purpose: Purpose) -> Result<Self, NoKey> {
        let sealing = |key: Result<Zeroizing<[u8; 32]>, NoKey>| {
            let key = key?;
            Ok((key_id(&key)?, RandomizedNonceKey::new(&AES_256_GCM, &*key).map_err(|_| NoKey)?))
        };
        let keys = keys.all(purpose).map(sealing).collect::<Result<_, _>>()?;
        Ok(Self { table: purpose.label(), keys })
    }

    /// The column that says this in the row of this id and owner.
    pub(super) fn seal(&self, id: &[u8], owner: &[u8], text: &[u8]) -> Result<Vec<u8>, NoKey> {
        let (key_id, key) = self.keys.first().ok_or(NoKey)?;
        let mut sealed = Zeroizing::new(text.to_vec());
        let nonce = key.seal_in_place_append_tag(self.aad(id, owner), &mut *sealed).map_err(|_| NoKey)?;
        Ok([&[VERSION], &key_id[..], nonce.as_ref(), &sealed].concat())
    }

    /// What the column of this row says; `None` if it is of another row, or by another key.
    pub(super) fn open(&self, id: &[u8], owner: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let rest = sealed.strip_prefix(&[VERSION])?;
        let (key_id, rest) = rest.split_first_chunk::<KEY_ID>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
        let (_, key) = self.keys.iter().find(|(known, _)| known == key_id)?;
        let mut text = Zeroizing::new(rest.to_vec());
        let length = key.open_in_place(Nonce::from(nonce), self.aad(id, owner), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }

    /// Which of the keys has sealed this.
    pub(super) fn position(&self, sealed: &[u8]) -> Option<usize> {
        self.keys.iter().position(|(known, _)| sealed.get(1..1 + KEY_ID) == Some(known))
    }

    /// Whether the key that seals now has sealed this.
    pub(super) fn is_by_first(&self, sealed: &[u8]) -> bool {
        self.position(sealed) == Some(0)
    }

    fn aad(&self, id: &[u8], owner: &[u8]) -> Aad<Vec<u8>> {
        // The id has one length in each table, so that nothing can be cut elsewhere.
        Aad::from([self.table.as_bytes(), b"\0", id, &[VERSION], owner].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_opens_in_its_row_and_nowhere_else() {
        let keys = Keys::of([[1; 32]], b"");
        let sealer = |keys: &Keys, purpose| ColumnSealer::new(keys, purpose).unwrap();
        let grants = sealer(&keys, Purpose::StoredGrants);
        let column = grants.seal(b"id", b"user:alice", b"secret").unwrap();
        let opened = |sealer: &ColumnSealer, id: &[u8], owner: &[u8], column: &[u8]| {
            sealer.open(id, owner, column).map(|text| text.to_vec())
        };
        assert_eq!(opened(&grants, b"id", b"user:alice", &column).as_deref(), Some(&b"secret"[..]));
        assert_eq!(opened(&grants, b"ie", b"user:alice", &column), None, "another row");
        assert_eq!(opened(&grants, b"id", b"user:bob", &column), None, "another user");
        let revoked = sealer(&keys, Purpose::StoredRevocations);
        assert_eq!(opened(&revoked, b"id", b"user:alice", &column), None, "another table");
        for bit in 0..column.len() * 8 {
            let mut changed = column.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&grants, b"id", b"user:alice", &changed), None, "bit {bit}");
        }
        for length in 0..column.len() {
            assert_eq!(opened(&grants, b"id", b"user:alice", &column[..length]), None);
        }
        // The first key seals, all open.
        let rotated = sealer(&Keys::of([[2; 32], [1; 32]], b""), Purpose::StoredGrants);
        assert_eq!(opened(&rotated, b"id", b"user:alice", &column).as_deref(), Some(&b"secret"[..]));
        assert!(grants.is_by_first(&column) && !rotated.is_by_first(&column));
        let other = sealer(&Keys::of([[2; 32]], b""), Purpose::StoredGrants);
        assert_eq!(opened(&other, b"id", b"user:alice", &column), None, "another key");
    }
}
