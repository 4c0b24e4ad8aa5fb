//! What a step logs while it trains: JSON lines for scripts and the report, TensorBoard events for those who watch.

use anyhow::{Context as _, Result};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Logs of one step's folder: `metrics.jsonl`, appended to over resumed runs, and one `events.out.tfevents.*` file a run.
#[derive(Debug)]
pub struct RunLog {
    lines: File,
    events: File,
}

impl RunLog {
    /// Opens both in `folder`.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn open(folder: &Path) -> Result<Self> {
        let lines = folder.join("metrics.jsonl");
        let open = |path: &Path| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| path.display().to_string())
        };
        let now = unix_seconds();
        // The process tells apart two runs that start within one second.
        let name = format!("events.out.tfevents.{:010}.shirube.{}", now as u64, std::process::id());
        let mut log = Self { lines: open(&lines)?, events: open(&folder.join(name))? };
        log.events.write_all(&record(&event(now, 0, Content::Version)))?;
        Ok(log)
    }

    /// Writes named values of a step; those that are not finite go to the JSON lines as null.
    ///
    /// # Errors
    /// A full disk.
    pub fn write(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut row = serde_json::Map::new();
        row.insert("step".to_owned(), step.into());
        row.extend(values.iter().map(|(name, v)| ((*name).to_owned(), serde_json::json!(v))));
        writeln!(self.lines, "{}", serde_json::Value::Object(row))?;
        let now = unix_seconds();
        let mut bytes = Vec::new();
        for (name, value) in values {
            bytes.extend(record(&event(now, step, Content::Scalar(name, *value as f32))));
        }
        Ok(self.events.write_all(&bytes)?)
    }
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Bytes of main memory that this process holds, where the system says so (Linux).
pub fn memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

enum Content<'a> {
    Version,
    Scalar(&'a str, f32),
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length-delimited protobuf field below number 16.
fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// TensorFlow's `Event`: wall_time 1 (double), step 2, file_version 3, summary 5; in the summary value 1, in that tag 1 and simple_value 2 (float).
fn event(wall_time: f64, step: u64, content: Content<'_>) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&wall_time.to_le_bytes());
    out.push(2 << 3);
    varint(step, &mut out);
    match content {
        Content::Version => field(3, b"brain.Event:2", &mut out),
        Content::Scalar(tag, number) => {
            let (mut value, mut summary) = (Vec::new(), Vec::new());
            field(1, tag.as_bytes(), &mut value);
            value.push(2 << 3 | 5);
            value.extend_from_slice(&number.to_le_bytes());
            field(1, &value, &mut summary);
            field(5, &summary, &mut out);
        }
    }
    out
}

/// A TFRecord: length, its checksum, data, its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&masked_crc(data).to_le_bytes());
    out
}

/// CRC-32C, turned and shifted as TFRecord wants it.
fn masked_crc(data: &[u8]) -> u32 {
    let crc = !data.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0x82F6_3B78 } else { c >> 1 })
    });
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32c() {
        // The check value of the CRC catalogue: 0xE3069283 for "123456789".
        assert_eq!(masked_crc(b"123456789"), 0xE306_9283u32.rotate_right(15).wrapping_add(0xA282_EAD8));
    }

    #[test]
    fn a_record_is_what_tensorflow_writes() {
        // Golden bytes by tensorboard 2.21 (`event_pb2.Event.SerializeToString`), wall_time 1.5, step 300, tag "loss", value 0.25.
        let found = event(1.5, 300, Content::Scalar("loss", 0.25));
        let expected = b"\x09\0\0\0\0\0\0\xf8\x3f\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\0\0\x80\x3e";
        assert_eq!(found, expected);
        let whole = record(&found);
        assert_eq!(whole.len(), found.len() + 16);
        assert_eq!(whole[..8], (found.len() as u64).to_le_bytes());
    }

    #[test]
    fn values_go_to_both_files_and_memory_is_known_here() {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let folder = temporary.path();
        let mut log = RunLog::open(folder).expect("a log");
        log.write(20, &[("loss", 0.5), ("accuracy", f64::NAN)]).expect("a row");
        let lines = std::fs::read_to_string(folder.join("metrics.jsonl")).expect("lines");
        let row: serde_json::Value = serde_json::from_str(lines.trim()).expect("json");
        assert_eq!(row, serde_json::json!({"step": 20, "loss": 0.5, "accuracy": null}));
        assert_eq!(std::fs::read_dir(folder).expect("a folder").count(), 2);
        if cfg!(target_os = "linux") {
            assert!(memory_bytes().is_some_and(|n| n > 1 << 20));
        }
    }
}
