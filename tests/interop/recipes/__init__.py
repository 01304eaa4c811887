"""One file a recipe; each has `checks(world)`."""

from . import (
    archive,
    compile_options,
    compiled_saved_model,
    continued,
    custom_layer,
    drawn,
    every_form,
    everything,
    json_npy,
    op_suite,
    options,
    pickles,
    premade,
    runs,
    saver,
    weights,
    whole_h5,
    wild,
    within,
)

RECIPES = (
    custom_layer.checks,
    weights.checks,
    saver.checks,
    compiled_saved_model.checks,
    whole_h5.checks,
    json_npy.checks,
    archive.checks,
    pickles.checks,
    wild.checks,
)

# Hundreds of models more: for whoever changes ops, layers or passes, and before a release.
WIDE = (
    runs.checks,
    op_suite.checks,
    drawn.checks,
    everything.checks,
    every_form.checks,
    continued.checks,
    premade.checks,
    within.checks,
    options.checks,
    compile_options.checks,
)
