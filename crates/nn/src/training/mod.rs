//! How a model is trained: optimizers, losses and metrics as configs, and the optimizer's state.

use modelark_artifact::{Dialect, Objects, Report, Training};

/// Training state as a dialect spells it, with what changes or is lost.
pub(crate) fn convert(training: &Training, _: &Objects, _: Dialect) -> (Training, Report) {
    (training.clone(), Report::default())
}
