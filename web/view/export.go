package view

import (
	"strconv"
	"strings"

	"nrt/trainer/reward"
)

// Export is what the page shows as a file: CSV, one line a chain and answer
// word, under the chosen formula and options. What the shown chain could have been
// comes last: as the model wrote it afresh, and the reader's variant of it. These have
// a name, and neither rank nor advantage. The text is "" without chains.
func Export(s *State) (name, text string) {
	r := s.Reading
	if r == nil || len(s.scores().chains) == 0 {
		return "", ""
	}
	var b strings.Builder
	line := func(fields ...string) {
		for i, x := range fields {
			if strings.ContainsAny(x, ",\"\n\r") {
				x = `"` + strings.ReplaceAll(x, `"`, `""`) + `"`
			}
			b.WriteString(when(i > 0, ",") + x)
		}
		b.WriteByte('\n')
	}
	line("model", "read_by", "mode", "clip", "normalize", "seed", "chain", "variant", "rank", "R", "R_base", "R_clipped", "A", "word", "token", "c_base", "c", "w", "contribution", "G")
	exact := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	base := s.scores().b
	lines := func(sc *reward.Scored, i int, variant, rank, advantage string) {
		for k := range sc.C {
			pull := ""
			if variant == "" {
				pull = exact(sc.TokenWeight[k])
			}
			line(r.Ask.Model, r.reader(), s.Mode.String(), strconv.FormatBool(s.Clip), strconv.FormatBool(s.Normalize), uintText(r.Ask.Seed), intText(i+1),
				variant, rank, exact(sc.R), exact(sc.Base), exact(sc.Clipped), advantage, intText(k+1), r.Answer[k].Text,
				exact(base[k]), exact(sc.C[k]), exact(sc.W[k]), exact(sc.Contribution[k]), pull)
		}
	}
	for _, i := range s.scores().order {
		sc := s.chainScore(i)
		lines(sc, i, "", intText(s.rank(s.Mode, i)), exact(sc.Advantage))
	}
	if i := s.chain(); i >= 0 {
		for k, cut := range r.Places(i) {
			list := r.fresh[place{i, cut}]
			for j, f := range list {
				if sc, err := reward.Score(f.Ref, r.Base, s.Options()); err == nil {
					lines(&sc, i, "written afresh from sentence "+intText(k+1)+" on; "+intText(j+1)+" of "+intText(len(list)), "", "")
				}
			}
		}
	}
	if sc := s.whatIf(); sc != nil {
		lines(sc, s.edited(), s.Edit.editName(), "", "")
	}
	return "nrt-" + strings.ReplaceAll(s.Mode.String(), "/", "-") + "-" + uintText(r.Ask.Seed) + ".csv", b.String()
}
