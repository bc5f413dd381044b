package view

import (
	"strconv"
	"strings"
)

// Export is what the page shows as a file: CSV, one line a chain and answer
// word, under the chosen formula and options. The text is "" without chains.
func Export(s *State) (name, text string) {
	r := s.Reading
	if r == nil || s.scores().done == 0 {
		return "", ""
	}
	var b strings.Builder
	b.WriteString("model,mode,clip,normalize,seed,chain,rank,R,R_base,R_clipped,A,word,token,c_base,c,w,contribution,G\n")
	field := func(x string) {
		if strings.ContainsAny(x, ",\"\n\r") {
			x = `"` + strings.ReplaceAll(x, `"`, `""`) + `"`
		}
		b.WriteString(x)
	}
	real := func(x float64) { b.WriteString("," + strconv.FormatFloat(x, 'g', -1, 64)) }
	base := s.scores().b
	for _, i := range s.scores().order {
		sc := s.chainScore(i)
		for k := range sc.C {
			field(r.Ask.Model)
			b.WriteString("," + s.Mode.String() + "," + boolText(s.Clip) + "," + boolText(s.Normalize) + "," + uintText(r.Ask.Seed))
			b.WriteString("," + intText(i+1) + "," + intText(s.rank(s.Mode, i)))
			real(sc.R)
			real(sc.Base)
			real(sc.Clipped)
			real(sc.Advantage)
			b.WriteString("," + intText(k+1) + ",")
			field(r.Answer[k].Text)
			real(base[k])
			real(sc.C[k])
			real(sc.W[k])
			real(sc.Contribution[k])
			real(sc.TokenWeight[k])
			b.WriteByte('\n')
		}
	}
	return "nrt-" + strings.ReplaceAll(s.Mode.String(), "/", "-") + "-" + uintText(r.Ask.Seed) + ".csv", b.String()
}
