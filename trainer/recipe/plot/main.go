// Command plot draws a study of the small world, as `nrt world --study` wrote
// it, into one SVG: held-out accuracy of every method, and reward, entropy and
// kinds of chain over training for NRT beside RLPR. It is a program of its own so
// that nrt carries no plotting library.
//
//	go run ./trainer/recipe/plot study.json docs/small-world.svg
package main

import (
	"encoding/json"
	"fmt"
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"nrt/trainer/recipe"
	"nrt/trainer/world"
)

// The two methods whose training is shown in full.
const left, right = "nrt:ws-logp", "rlpr"

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: plot STUDY.json OUT.svg")
		os.Exit(2)
	}
	if err := draws(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func draws(in, out string) error {
	raw, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	var trials []*recipe.Trial
	if err := json.Unmarshal(raw, &trials); err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	byMethod := map[string][]*recipe.Trial{}
	var order []string
	for _, t := range trials {
		if len(t.Families) > 0 {
			continue
		}
		if byMethod[t.Method] == nil {
			order = append(order, t.Method)
		}
		byMethod[t.Method] = append(byMethod[t.Method], t)
	}
	panels := make([][]*plot.Plot, 2)
	accuracy, err := accuracyPanel(order, byMethod)
	if err != nil {
		return err
	}
	both := map[string]string{left: "NRT ws-logp", right: "RLPR"}
	dynamics := panel("mean reward (NRT: R′; RLPR: 0.9 R′ + 0.1 format), and entropy in nats", "training step")
	for i, m := range []string{left, right} {
		for j, key := range []string{"reward", "entropy"} {
			if err := line(dynamics, curve(byMethod[m], key), palette(i), j, both[m]+" "+key); err != nil {
				return err
			}
		}
	}
	panels[0] = []*plot.Plot{accuracy, dynamics}
	for _, m := range []string{left, right} {
		p := panel("share of chains: "+both[m], "training step")
		p.Y.Min, p.Y.Max = 0, 1
		for i, k := range world.Kinds() {
			if err := line(p, curve(byMethod[m], "nrt/kind/"+k), palette(i), 0, k); err != nil {
				return err
			}
		}
		panels[1] = append(panels[1], p)
	}
	c := vgsvg.New(28*vg.Centimeter, 18*vg.Centimeter)
	tiles := draw.Tiles{Rows: 2, Cols: 2, PadX: vg.Millimeter * 6, PadY: vg.Millimeter * 6, PadTop: 6, PadBottom: 6, PadLeft: 6, PadRight: 6}
	canvases := plot.Align(panels, tiles, draw.New(c))
	for i := range panels {
		for j := range panels[i] {
			panels[i][j].Draw(canvases[i][j])
		}
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}

func panel(title, x string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text = title, x
	p.Legend.Top = true // beside the curves, which end where X.Max does not
	p.X.Min = 0
	p.Add(plotter.NewGrid())
	return p
}

// accuracyPanel shows held-out accuracy at the evaluations, mean over seeds.
func accuracyPanel(order []string, by map[string][]*recipe.Trial) (*plot.Plot, error) {
	p := panel("held-out accuracy (greedy, mean of seeds)", "training step")
	p.Y.Min, p.Y.Max = 0, 1.02
	for i, m := range order {
		var xy plotter.XYs
		for k, at := range by[m][0].Points {
			y := 0.0
			for _, t := range by[m] {
				y += t.Points[k].Accuracy / float64(len(by[m]))
			}
			xy = append(xy, plotter.XY{X: float64(at.Step), Y: y})
		}
		if err := line(p, xy, palette(i), i/8, m); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// curve is a metric per step, mean over seeds, smoothed over five steps.
func curve(trials []*recipe.Trial, key string) plotter.XYs {
	if len(trials) == 0 {
		return nil
	}
	mean := make([]float64, len(trials[0].Curve))
	for _, t := range trials {
		for i, v := range t.Curve {
			mean[i] += v[key] / float64(len(trials))
		}
	}
	var xy plotter.XYs
	for i := range mean {
		lo, hi := max(0, i-2), min(len(mean), i+3)
		sum := 0.0
		for _, y := range mean[lo:hi] {
			sum += y
		}
		xy = append(xy, plotter.XY{X: trials[0].Curve[i]["step"], Y: sum / float64(hi-lo)})
	}
	return xy
}

func line(p *plot.Plot, xy plotter.XYs, c color.Color, dash int, name string) error {
	if len(xy) == 0 {
		return nil
	}
	l, err := plotter.NewLine(xy)
	if err != nil {
		return err
	}
	l.Color, l.Width = c, vg.Points(1.6)
	if dash > 0 {
		l.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
	}
	p.Add(l)
	p.X.Max = 1.35 * xy[len(xy)-1].X
	p.Legend.Add(name, l)
	return nil
}

// palette is Okabe and Ito's, which colour-blind people can tell apart.
func palette(i int) color.Color {
	list := []color.RGBA{
		{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255},
		{86, 180, 233, 255}, {230, 159, 0, 255}, {0, 0, 0, 255}, {140, 140, 140, 255},
	}
	return list[i%len(list)]
}
