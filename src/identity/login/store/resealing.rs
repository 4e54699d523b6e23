//! Seals with the first key what another has sealed, so that the other is not needed any more.

use rusqlite::{Connection, TransactionBehavior::Immediate, params};

use super::{
    rows::{PORTION, SealedRow, Sealers},
    upstream_rows::{CLIENT_BOUND, FLOW_BOUND, UPSTREAM_BOUND},
};

/// What became of the rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// How many rows there are.
    pub rows: usize,
    /// How many of them another key had sealed.
    pub sealed: usize,
    /// Those that do not open, which stay as they are.
    pub faults: Vec<String>,
}

/// Goes through all rows, some at a time: whoever else has the file waits for one portion at most. What is done stays done.
pub(super) fn seal_anew(connection: &mut Connection, sealers: &Sealers) -> rusqlite::Result<Resealed> {
    let mut done = Resealed::default();
    for (table, bound, sealer) in [
        ("grants", "principal", &sealers.grants),
        ("revoked", "''", &sealers.revocations),
        ("codes", "principal", &sealers.codes),
        ("consents", "principal", &sealers.consents),
        ("accounts", "principal", &sealers.accounts),
        ("upstream", UPSTREAM_BOUND, &sealers.upstream),
        ("flows", FLOW_BOUND, &sealers.flows),
        ("clients", CLIENT_BOUND, &sealers.clients),
    ] {
        let select =
            format!("SELECT id, {bound}, body FROM {table} WHERE id > ?1 ORDER BY id LIMIT {PORTION}");
        let update = format!("UPDATE {table} SET body = ?2 WHERE id = ?1");
        let mut last = Vec::new();
        loop {
            let tx = connection.transaction_with_behavior(Immediate)?;
            let rows: Vec<SealedRow> =
                tx.prepare(&select)?.query_map([&last], SealedRow::read)?.collect::<rusqlite::Result<_>>()?;
            done.rows += rows.len();
            for row in rows.iter().filter(|row| !sealer.is_by_first(&row.body)) {
                let SealedRow { id, owner, body } = row;
                let opened = sealer.open(id, owner, body);
                match opened.map(|text| sealer.seal(id, owner, &text)) {
                    Some(Ok(body)) => {
                        tx.execute(&update, params![id, body])?;
                        done.sealed += 1;
                    }
                    _ => done.faults.push(row.full_name(table)),
                }
            }
            tx.commit()?;
            let Some(row) = rows.into_iter().next_back() else { break };
            last = row.id;
        }
    }
    Ok(done)
}
