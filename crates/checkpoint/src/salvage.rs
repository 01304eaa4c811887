//! What is intact of a damaged checkpoint.

use std::collections::{BTreeMap, HashMap};

use modelark_artifact::{Error, Limits, Place, Result, Salvage};
use modelark_proto::{BundleEntryProto, BundleHeaderProto, Message};

use crate::bundle::{Bundle, OBJECT_GRAPH_KEY, beside};
use crate::reader::shards;
use crate::table::Table;

impl Bundle {
    /// As [`Bundle::open`], but what is damaged of the index is passed over; gives what was wrong with it.
    ///
    /// # Errors
    /// When there is no index, or nothing of it can be read.
    pub fn salvage(prefix: Place, limits: &Limits) -> Result<(Self, Vec<Error>)> {
        let index = beside(&prefix, ".index");
        let (records, mut damage) = Table::salvage(index.open()?, limits);
        let mut header = BundleHeaderProto { num_shards: count_shards(&prefix), ..Default::default() };
        let (mut entries, mut slices) = (BTreeMap::new(), HashMap::new());
        for (key, value) in records {
            if key.is_empty() {
                header = BundleHeaderProto::decode(&*value).unwrap_or(header);
            } else if let Ok(entry) = BundleEntryProto::decode(&*value) {
                match String::from_utf8(key) {
                    Ok(key) if !key.starts_with('\0') => drop(entries.insert(key, entry)),
                    Ok(key) => drop(slices.insert(key.into_bytes(), entry)),
                    Err(e) => drop(slices.insert(e.into_bytes(), entry)),
                }
            }
        }
        if entries.is_empty() {
            let nothing = || Error::corrupt("nothing of the index can be read");
            return Err(damage.pop().unwrap_or_else(nothing).in_file(index.label()));
        }
        let damage = damage.into_iter().map(|e| e.in_file(index.label())).collect();
        Ok((Bundle::of(prefix, limits.clone(), header, entries, slices), damage))
    }

    /// The tensors that can be found, by key, and what is wrong with the others: the parts of a damaged checkpoint.
    ///
    /// # Errors
    /// As [`Bundle::salvage`].
    pub fn intact(prefix: Place, limits: &Limits) -> Result<Salvage> {
        let (bundle, mut damage) = Bundle::salvage(prefix, limits)?;
        let mut variables = Vec::new();
        for key in bundle.keys().filter(|key| *key != OBJECT_GRAPH_KEY) {
            match bundle.variable(key) {
                Ok(variable) => variables.push((key.to_owned(), variable)),
                Err(e) => damage.push(e),
            }
        }
        Ok(Salvage { variables, damage })
    }
}

/// How many data files the checkpoint has, as their names say.
fn count_shards(prefix: &Place) -> i32 {
    let names = shards(prefix, ".data-").into_iter().map(|p| p.name);
    names.filter_map(|n| n.rsplit_once("-of-")?.1.parse().ok()).max().unwrap_or(1)
}
