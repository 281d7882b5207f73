"""Networks of others, described by a card: a small YAML file beside the file of the network.

`card` says what a card may hold, `torchscript` and `onnx_session` run the two formats after
`torchscript_code` and `onnx_file` have looked at what is in the file, `decoders` turn the outputs
into nuclei, and `model` is all of it behind the engine's protocol.
"""
