"""Values and gradients of the trainer's operations as PyTorch computes them, in f64. Writes ops.json. Needs torch."""
import json, pathlib
import torch
import torch.nn.functional as F

here = pathlib.Path(__file__).parent
torch.manual_seed(20261120)
torch.set_default_dtype(torch.float64)
cases = []


def var(*shape, scale=1.0, shift=0.0):
    # Stored in six decimals, computed from what is stored.
    return (torch.randn(*shape) * scale + shift).mul(1e6).round().div(1e6).requires_grad_()


def rounded(t):
    return [float(f"{v:.9g}") for v in t.detach().flatten().tolist()]


def case(op, inputs, output, **constants):
    """`inputs` get gradients of sum(output * weights)."""
    weights = torch.sin(torch.arange(output.numel()) * 1.7 + 0.3).reshape(output.shape)
    grads = torch.autograd.grad((output * weights).sum(), inputs, retain_graph=True)
    cases.append(dict(op=op, inputs=[dict(shape=list(x.shape), values=rounded(x)) for x in inputs], output=rounded(output),
                      weights=rounded(weights), gradients=[rounded(g) for g in grads], **constants))


x, w, b, r = var(5, 6), var(4, 6), var(4), var(5, 4)
case("linear", [x, w], F.linear(x, w))
case("linear_bias", [x, w, b], F.linear(x, w, b))
case("linear_add", [x, w, r], F.linear(x, w) + r)

x, gamma, beta = var(4, 19, shift=0.5), var(19, scale=0.3, shift=1.0), var(19)
case("layer_norm", [x, gamma], F.layer_norm(x, [19], gamma, None, 1e-5))
case("layer_norm_bias", [x, gamma, beta], F.layer_norm(x, [19], gamma, beta, 1e-12))

x = var(3, 34, scale=2.0)
case("geglu", [x], F.gelu(x[:, :17]) * x[:, 17:])
case("gelu", [x], F.gelu(x))
case("softplus", [x], F.softplus(x))
case("l2_normalize", [x], F.normalize(x, dim=-1))

table = var(7, 5)
ids = [3, 0, 3, 6, 1]
case("gather", [table], F.embedding(torch.tensor(ids), table), ids=ids)


def rotary(x, theta):
    t, d = x.shape[-2:]
    freq = 1.0 / theta ** (torch.arange(0, d, 2) / d)
    angle = torch.arange(t)[:, None] * freq[None]
    cos, sin = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()
    return x * cos + torch.cat([-x[..., d // 2:], x[..., :d // 2]], -1) * sin


def attention(qkv, offsets, heads, reach, theta, attended):
    out = []
    for i, (a, z) in enumerate(zip(offsets, offsets[1:])):
        q, k, v = qkv[a:z].reshape(z - a, 3, heads, -1).permute(1, 2, 0, 3)
        if theta:
            q, k = rotary(q, theta), rotary(k, theta)
        at = torch.arange(z - a)
        seen = (at[None] < (attended[i] if attended else z - a))
        if reach is not None:
            seen = seen & ((at[:, None] - at[None]).abs() <= reach)
        out.append(F.scaled_dot_product_attention(q, k, v, attn_mask=seen.expand(z - a, -1)).transpose(0, 1).reshape(z - a, -1))
    return torch.cat(out)


for reach, theta, attended in [(None, 1e4, None), (2, 100.0, None), (None, None, [4, 5]), (3, 1e4, [4, 5])]:
    qkv, offsets = var(12, 24), [0, 7, 12]
    case("attention", [qkv], attention(qkv, offsets, 2, reach, theta, attended), offsets=offsets, n_heads=2, reach=reach,
         rope_theta=theta, attended=attended)

q, d = var(6, 5), var(10, 5)
qo, do = [0, 2, 6], [0, 3, 4, 10]
cut = lambda x, o: [x[a:z] for a, z in zip(o, o[1:])]
each = [[(a @ b.T).amax(1) for b in cut(d, do)] for a in cut(q, qo)]
pairs = [[1, 2], [0, 0], [1, 0]]
case("maxsim_all", [q, d], torch.stack([torch.stack([m.sum() for m in row]) for row in each]), query_offsets=qo, document_offsets=do)
case("maxsim_pairs", [q, d], torch.stack([each[a][b].sum() for a, b in pairs]), query_offsets=qo, document_offsets=do, pairs=pairs)
case("maxsim_tokens", [q, d], torch.cat([each[a][b] for a, b in pairs]), query_offsets=qo, document_offsets=do, pairs=pairs)

student, teacher = var(3, 8, scale=4.0), var(3, 8, scale=3.0).detach()
norm = lambda s: (s - s.amin(1, True)) / (s.amax(1, True) - s.amin(1, True) + 1e-8)
for temperature, on_student, on_teacher in [(1.0, True, True), (0.25, True, True), (0.5, False, True), (2.0, False, False)]:
    s = norm(student) if on_student else student
    t = norm(teacher) if on_teacher else teacher
    loss = F.kl_div(F.log_softmax(s / temperature, -1), F.log_softmax(t / temperature, -1), reduction="batchmean", log_target=True)
    case("kl_min_max", [student], loss, teacher=rounded(teacher), temperature=temperature, normalise_student=on_student,
         normalise_teacher=on_teacher)
margins = lambda s: s[:, :1] - s[:, 1:]
case("margin_mse", [student], F.mse_loss(margins(student), margins(teacher)), teacher=rounded(teacher))

scores, targets = var(3, 6, scale=3.0), [2, 0, 5]
case("cross_entropy", [scores], F.cross_entropy(scores, torch.tensor(targets)), targets=targets)
hidden, table, targets = var(4, 5), var(9, 5), [8, 0, 3, 3]
case("masked_lm_loss", [hidden, table], F.cross_entropy(hidden @ table.T, torch.tensor(targets)), targets=targets)

(here / "ops.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
