//! What has its bytes in its row: small blobs, and manifests. They are few bytes beside those of objects, so a round begins
//! with them.

use super::{Damage, HOLD, Rate, SAVED_EVERY, ScrubReport, Scrubber};
use crate::Error;
use longshore_metadata::{Content, DamagedRow, InRows, RowsRead};
use tokio::time::Instant;

/// Contents that are read together: manifests have up to some megabytes.
const TOGETHER: u32 = 16;

/// How far a reading of the rows came, and what it found since that was saved.
struct Reading {
    claim: i64,
    rows: RowsRead,
    saved: Instant,
    found: ScrubReport,
}

impl Scrubber {
    /// Reads what is left of the rows in this round.
    pub(super) async fn read_rows(
        &self,
        claim: i64,
        from: RowsRead,
        rate: &mut Rate,
        report: &mut impl FnMut(&ScrubReport),
    ) -> Result<(), Error> {
        let mut reading = Reading { claim, rows: from, saved: Instant::now(), found: ScrubReport::default() };
        while let RowsRead::UpTo(of, place) = reading.rows {
            let page = self.metadata.contents(of, place, TOGETHER).await?;
            let Some(reached) = page.reached else {
                reading.rows = match of {
                    InRows::Blobs => RowsRead::UpTo(InRows::Manifests, (0, 0)),
                    InRows::Manifests => RowsRead::All,
                };
                self.save_rows(claim, reading.rows).await?;
                continue;
            };
            for content in page.contents {
                rate.turn(content.bytes.len() as u64).await;
                reading.rows = RowsRead::UpTo(of, content.place);
                self.compare(content, &mut reading.found).await?;
                self.save_if_due(&mut reading, report).await?;
            }
            // Also past rows that have nothing to read: there may be millions of them.
            reading.rows = RowsRead::UpTo(of, reached);
            self.save_if_due(&mut reading, report).await?;
        }
        report(&reading.found);
        Ok(())
    }

    async fn save_if_due(&self, reading: &mut Reading, report: &mut impl FnMut(&ScrubReport)) -> Result<(), Error> {
        if reading.saved.elapsed() >= SAVED_EVERY {
            self.save_rows(reading.claim, reading.rows).await?;
            reading.saved = Instant::now();
            report(&std::mem::take(&mut reading.found));
        }
        Ok(())
    }

    async fn save_rows(&self, claim: i64, rows: RowsRead) -> Result<(), Error> {
        if self.metadata.save_scrub_rows(claim, rows, HOLD).await? { Ok(()) } else { Err(Error::ClaimLost) }
    }

    async fn compare(&self, content: Content, read: &mut ScrubReport) -> Result<(), Error> {
        read.rows += 1;
        read.bytes += content.bytes.len() as u64;
        let Some(row) = DamagedRow::of(content.repository.as_ref(), &content.digest, &content.bytes) else {
            if content.is_damaged && self.metadata.clear_damaged_row(&content).await? {
                read.recovered.push(named(&content));
            }
            return Ok(());
        };
        let Content { repository, digest, is_damaged: is_known, .. } = content;
        let reason = row.reason.clone();
        // One that was deleted, or pushed anew, since it was read is nobody's any more.
        if is_known || self.metadata.mark_damaged_row(row).await? {
            read.damaged.push(Damage { key: None, repository, digest, reason, is_known });
        }
        Ok(())
    }
}

fn named(content: &Content) -> String {
    match &content.repository {
        Some(repository) => format!("{repository}@{}", content.digest),
        None => format!("blob {}", content.digest),
    }
}
