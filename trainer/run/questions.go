package run

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"nrt/trainer/data"
	"nrt/trainer/eval"
	"nrt/trainer/objective"
)

// openQuestions turns examples into ids and leaves out what is too long.
func (t *trainer) openQuestions(ctx context.Context) (err error) {
	if t.extract, err = eval.ParseExtract(t.c.Data.AnswerRegex); err != nil {
		return err
	}
	if t.questions, err = t.ask(ctx, t.train, "training"); err != nil {
		return err
	}
	if len(t.questions) == 0 {
		return fmt.Errorf("data.train (--data): no example is left to train on: %s", t.moreRoom())
	}
	if t.exam, err = t.ask(ctx, t.held, "evaluation"); err != nil {
		return err
	}
	t.drawExam()
	unknown := 0
	for _, list := range [][]Question{t.questions, t.exam} {
		for _, q := range list {
			t.longest = max(t.longest, len(q.Answer))
			unknown += Unknown(t.tok, q.Prompt, q.Answer)
		}
	}
	if note := UnknownNote(unknown, t.tok, "all questions and answers"); note != "" {
		t.note("%s", note)
	}
	used := make([]data.Example, len(t.questions))
	for i, q := range t.questions {
		used[i] = t.train[q.Index]
	}
	var sampler *data.Sampler
	var failed error
	if err := unlessDone(ctx, func() { sampler, failed = data.NewSampler(used, Seed(t.c.Train.Seed, "order")) }); err != nil {
		return err
	}
	if t.sampler = sampler; failed != nil {
		return failed
	}
	t.total = t.c.Train.Total(len(t.questions), t.c.Rollout.Questions)
	if n, each := len(t.questions), t.c.Rollout.Questions; n < each {
		t.note("warning: a step takes %d questions and there are %d, so that each comes several times in it, and the run has %s: --questions %d or less is a step of different ones, and --steps or --epochs make the run longer",
			each, n, stepCount(t.total), n)
	}
	return nil
}

// stepCount is "1 step" or "7 steps".
func stepCount(n int) string {
	if n == 1 {
		return "1 step"
	}
	return fmt.Sprintf("%d steps", n)
}

// drawExam takes as many of the evaluation questions as were asked for. The
// first would be whatever their file begins with, so that they are drawn; by the
// seed, so that all evaluations of a run ask the same.
func (t *trainer) drawExam() {
	all, n := t.exam, t.c.Eval.N
	if n == 0 || len(all) <= n {
		return
	}
	t.exam = make([]Question, n)
	for i, at := range data.Draw(len(all), n, Seed(t.c.Train.Seed, "exam")) {
		t.exam[i] = all[at]
	}
	t.note("evaluations ask %d of %d questions (--eval-n), drawn by the seed", n, len(all))
}

// compareExam forgets the best evaluation where others asked other questions: the two
// do not compare.
func (t *trainer) compareExam() {
	s, now := &t.state, fingerprint(t.exam)
	if len(t.exam) == 0 || s.Exam != nil && s.Exam.Fingerprint == now {
		return
	}
	was := s.Exam
	s.Exam = &Exam{Fingerprint: now}
	if was == nil {
		return
	}
	if s.Exam.From = s.Step; !s.Unevaluated {
		s.Exam.From++
	}
	if s.Best != nil {
		t.note("evaluations ask other questions than before: the best of those, after step %d, is compared and kept no more", s.Best.Step)
		s.Best = nil
	}
}

// fingerprint tells apart lists of questions.
func fingerprint(list []Question) string {
	h := sha256.New()
	var b []byte
	for _, q := range list {
		for _, ids := range [][]int32{q.Prompt, q.Answer} {
			b = binary.LittleEndian.AppendUint64(b[:0], uint64(len(ids)))
			for _, id := range ids {
				b = binary.LittleEndian.AppendUint32(b, uint32(id))
			}
			h.Write(b)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// ask lays examples out, until ctx ends. What a layout cannot hold is a bad line like
// any other.
func (t *trainer) ask(ctx context.Context, examples []data.Example, what string) ([]Question, error) {
	var out []Question
	var skipped data.Skipped
	long, cut := 0, 0
	compared := t.c.Objective.Method.Verifies() || what == "evaluation" && t.c.Eval.Answers
	for i, e := range examples {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		q, err := t.askOne(e, i)
		if _, ok := t.extract.From(e.Answer); err == nil && compared && !ok {
			err = &data.LineError{File: e.File, Line: e.Line, Problem: fmt.Sprintf("the reference holds nothing that --answer-regex %s matches: nothing could equal it", t.extract)}
		}
		var bad *data.LineError
		if errors.As(err, &bad) && t.c.Data.Options().Skip {
			skipped.Add(bad)
			continue
		}
		if err != nil {
			return nil, err
		}
		skipped.Examples++
		if t.c.Objective.Method == objective.LM {
			parts := stretches(q, t.window())
			if len(parts) > 1 {
				cut++
			}
			out = append(out, parts...)
			continue
		}
		room := t.model.Config.MaxPositions - t.chainRoom()
		if len(q.Prompt) > t.c.Data.MaxPrompt || len(q.Answer) > t.c.Data.MaxAnswer || len(q.Prompt)+len(q.Answer) > room {
			long++
			continue
		}
		out = append(out, q)
	}
	if s := skipped.String(); s != "" {
		t.note("%s examples: %s", what, s)
	}
	if long > 0 {
		t.note("%d of %d %s examples are left out: longer than --max-prompt, --max-answer, or the model's %d positions less %d for the chain",
			long, len(examples), what, t.model.Config.MaxPositions, t.chainRoom())
	}
	if cut > 0 {
		t.note("%d of %d %s documents are longer than %d tokens and are cut into windows: %d in all", cut, len(examples), what, t.window(), len(out))
	}
	return out, nil
}

// moreRoom says what would leave fewer examples out.
func (t *trainer) moreRoom() string {
	list := []string{"--max-prompt and --max-answer leave out what is longer"}
	if t.c.Objective.Method.Rollouts() {
		list = append(list, "a shorter --max-chain leaves more room for questions and answers")
	}
	if t.c.Model.New() {
		list = append(list, "--positions makes a model of more")
	}
	return strings.Join(list, ", ")
}

// askOne lays an example out. Plain language modelling learns all of it: the
// first token is the prompt.
func (t *trainer) askOne(e data.Example, index int) (Question, error) {
	if e.Text != "" {
		if t.c.Objective.Method != objective.LM {
			return Question{}, &data.LineError{File: e.File, Line: e.Line, Field: "text", Problem: fmt.Sprintf("--method %s needs questions and answers", t.c.Objective.Method)}
		}
		ids := append(t.tok.Encode(e.Text), t.format.End...)
		if bos := t.tok.BOS(); bos >= 0 {
			ids = append([]int32{bos}, ids...)
		}
		return Question{Prompt: ids[:1], Answer: ids[1:], Index: index}, nil
	}
	q, err := Ask(t.format, e, index)
	if err == nil && t.c.Objective.Method == objective.LM {
		all := slices.Concat(q.Prompt, t.format.Close, q.Answer)
		q.Prompt, q.Answer = all[:1], all[1:]
	}
	return q, err
}

// window is how many tokens of a document are read at once.
func (t *trainer) window() int {
	return max(2, min(t.model.Config.MaxPositions, t.c.Data.MaxAnswer))
}

// stretches cuts a document into windows of at most so many tokens. Each begins
// with the last token of the one before, so that every token but the document's
// first is predicted once.
func stretches(q Question, most int) []Question {
	ids := slices.Concat(q.Prompt, q.Answer)
	if len(ids) <= most {
		return []Question{q}
	}
	var list []Question
	for at := 0; at+1 < len(ids); at += most - 1 {
		w := q
		w.Prompt, w.Answer = ids[at:at+1], ids[at+1:min(at+most, len(ids))]
		list = append(list, w)
	}
	return list
}

// chainRoom is how many positions a chain and its boundary may take.
func (t *trainer) chainRoom() int {
	switch t.c.Objective.Method {
	case objective.LM:
		return 0
	case objective.SFT:
		return len(t.format.Close)
	}
	return t.c.Rollout.MaxChain + len(t.format.Close)
}

// answerRoom is how long an answer to a question may get in an evaluation, in
// tokens. Where a part of it is compared, what comes before that may be as long as
// any reference.
func (t *trainer) answerRoom(q Question) int {
	n := len(q.Answer)
	if !t.extract.All() {
		n = t.longest
	}
	return max(len(q.Answer), min(sampledRoom(n), t.model.Config.MaxPositions-t.chainRoom()-len(q.Prompt)))
}
