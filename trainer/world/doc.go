// Package world generates the small world: question–answer tasks in seven
// families, and the text in mixed quality that a base model is pretrained on.
//
// # Purpose
//
// A small Llama (a third of a million parameters) pretrained on Pretrain's text
// knows how to solve every task step by step, but rarely does so of its own
// accord: its favourite chain of thought is idle chatter. Training on the
// question–answer pairs of Train alone — no chains given — then shows which
// reward makes the model select its good chains and sharpen them.
//
//	family  mirrors            a state is     an operation is
//	kin     multi-hop kinship  one of 12 names father, mother, boss, friend
//	cups    object tracking    one of 4 cups   a swap of two cups
//	calc    arithmetic mod 10  a digit         +1 … +5, *3, *7, *9
//	bool    boolean expression true, false     and, or, xor with a constant
//	step    word problem       0 … 20 coins    gets, loses, doubles, halves
//	why     reasoned yes/no    0 … 20 coins    the same, then a price
//	date    calendar           a weekday       1 … 3 days forward or back
//
// kin and cups answer in sentences of easy words around one hard word; calc and
// bool in short phrases an exact match can grade; step, why and date freely, in
// hundreds of paraphrases, which it cannot.
//
// # Sequence
//
// Every document is words separated by single spaces, one token a word:
//
//	kin : anna a) father b) boss who ? <think> a) father ben b) boss carl </think> one finds that …
//
// A right chain writes label, operation, state per step. The operation is copied
// from the question by its label; the state is one look-up in a table. Without
// the chain the answer is a composition of n look-ups in one pass.
//
// # Invariants
//
//   - Everything follows from seeds: the same world seed, call seed and n give
//     the same bytes, and a longer draw begins with the shorter one.
//   - The vocabulary is the same for every seed, and closed: no <unk>.
//   - In each family 30 % of all triples of operations are held out. No text of
//     Pretrain and no item of Train has a held-out triple anywhere in its
//     operations; every item of HeldOut and Longer has at least one. So no
//     question of a test, nor a part of it that makes it a test, was ever read.
//   - A question holds all that is needed to solve it in its world: grading
//     parses the question, so items survive a round trip through JSONL.
//   - A World is read-only after New, and safe for concurrent use.
//
// # Choices that matter
//
//  1. Held out are triples, not whole sequences: otherwise an unseen sequence of four
//     could be a sequence of three read often, plus one step. step and why share
//     their held-out triples, as they share their operations.
//  2. Longer is held out from pretraining too, not only from QA.
//  3. A guess is a uniform draw, right by luck, instead of right in 10 %: for two
//     truth values 10 % would be knowledge.
//  4. One-step chains are never sloppy: half of what a text says about a fact on
//     its own would be wrong, and a base that knows its tables is the point.
//  5. Some documents are fact sheets (no question, no chain), walks through the
//     tables: they teach the tables with ten times fewer words than chains do.
//  6. Every operation is one token in every family, so that a chain is n×3
//     words and copying is one attention step; calc's operations are all
//     invertible and step's do not commute, so that no prefix can be skipped.
//  7. Both phrasings of a slot differ in their first word and share it among
//     their variants: the register is one decision, the variant another.
//
// # Reading order
//
// tune.go (all constants), family.go, one family (kin.go), question.go, chain.go,
// answer.go, then text.go and items.go; grade.go and gate.go judge models.
package world
