#!/usr/bin/env bash
# torch 2.13.0 with onnx 1.23.2 and onnxruntime 1.32.0 (torch.onnx.export, dynamo=False), seen 2026-11-30.
#
# One would guess: whether a transformer's encoder can be exported to ONNX depends on its operators, not on its sizes,
# and an export for inference may be done with gradients off: what works for a tiny model works for a large one.
# What happens: with gradients off nn.TransformerEncoderLayer takes a fused path where its number of heads is even,
# for which the exporter has no operator: UnsupportedOperatorError. With an odd number, as in a test model of one head,
# it is exported and equals torch. Encoders with decision heads have 12 and 16. With gradients on, or without the fused
# path (torch.backends.mha.set_fastpath_enabled), all are exported.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.13.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > look.py <<'PYTHON'
import io, warnings

import onnxruntime
import torch

warnings.simplefilter("ignore")


class Encoder(torch.nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.layer = torch.nn.TransformerEncoderLayer(heads * 32, heads, batch_first=True, norm_first=True)

    def forward(self, x, padding):
        return self.layer(x, src_key_padding_mask=padding)


def exported(heads):
    """How far the graph is from torch where no padding is, or the exporter's error."""
    torch.manual_seed(0)
    model, names, buffer = Encoder(heads).eval(), ["x", "padding"], io.BytesIO()
    x, padding = torch.randn(2, 5, heads * 32), torch.tensor([[False] * 5, [False] * 4 + [True]])
    try:
        torch.onnx.export(model, (x, padding), buffer, dynamo=False, opset_version=17, input_names=names)
    except torch.onnx.errors.UnsupportedOperatorError as error:
        return f"UnsupportedOperatorError {str(error).split(chr(39))[1]}"
    session = onnxruntime.InferenceSession(buffer.getvalue())
    (out,) = session.run(None, {"x": x.numpy(), "padding": padding.numpy()})
    return float(abs(out - model(x, padding).detach().numpy())[~padding.numpy()].max())


for gradients, fused in (False, True), (True, True), (False, False):
    torch.set_grad_enabled(gradients)
    torch.backends.mha.set_fastpath_enabled(fused)
    for heads in 1, 2, 3, 4, 12:
        got = exported(heads)
        print(f"gradients {gradients}, fused path {fused}, {heads} heads: {got}")
        if fused and not gradients and heads % 2 == 0:
            assert got == "UnsupportedOperatorError aten::_transformer_encoder_layer_fwd", got
        else:
            assert got < 1e-5, got
PYTHON
env/bin/python look.py | grep ^gradients  # the exporter prints whole graphs
