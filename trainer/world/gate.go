package world

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The roles of a right chain's words.
const (
	RoleOpen  = "open"  // the first label: whether the model derives at all
	RoleLabel = "label" // a later label, or the word before the price
	RoleOp    = "op"    // an operation or price, copied from the question
	RoleState = "state" // a state or verdict, looked up
)

// GateItem is a question with its right chain, to be teacher-forced: given the
// question and Chain[:i], what would the model write for Chain[i]?
type GateItem struct {
	Item
	Chain []string // one token a word
	Roles []string // of each word of Chain
}

// Gate draws the gate's n questions, with one to five operations and structured
// as the text is: choosing a base by them does not look at the tests.
func (w *World) Gate(n int, seed uint64, families ...string) []GateItem {
	items := w.items(n, w.stream(streamGate, seed), SplitGate, families)
	gate := make([]GateItem, n)
	for i, item := range items {
		gate[i], _ = w.Teach(item) // our own question parses
	}
	return gate
}

// Teach lays out the right chain of any item; false if the question is not one
// of this world.
func (w *World) Teach(item Item) (GateItem, bool) {
	p, err := w.parse(item.Question)
	if err != nil {
		return GateItem{}, false
	}
	g := GateItem{Item: item, Chain: p.rightChain()}
	for range len(g.Chain) / 3 {
		g.Roles = append(g.Roles, RoleLabel, RoleOp, RoleState)
	}
	g.Roles[0] = RoleOpen
	return g, true
}

// Count is how many of Of were right.
type Count struct{ Right, Of int }

// Share is Right/Of; NaN for nothing counted.
func (c Count) Share() float64 { return float64(c.Right) / float64(c.Of) }

func (c *Count) add(right bool) {
	c.Of++
	if right {
		c.Right++
	}
}

// GateReport counts a base's teacher-forced greedy words. The zero value is
// ready to use.
type GateReport struct {
	// Role counts by role.
	Role map[string]*Count
	// Cell counts by "family n role" ("calc 3 state"), for the roles op and state.
	Cell map[string]*Count
	// Chatters counts the items whose greedy first word is the chatterer's.
	Chatters Count
}

// Add counts one item; predicted[i] is the most probable word after the
// question, <think> and Chain[:i].
func (g *GateReport) Add(item GateItem, predicted []string) error {
	if len(predicted) != len(item.Chain) {
		return fmt.Errorf("gate: want %d predicted words, have %d", len(item.Chain), len(predicted))
	}
	if g.Role == nil {
		g.Role, g.Cell = map[string]*Count{}, map[string]*Count{}
	}
	count := func(m map[string]*Count, key string, right bool) {
		if m[key] == nil {
			m[key] = &Count{}
		}
		m[key].add(right)
	}
	g.Chatters.add(len(predicted) > 0 && predicted[0] == chatterOpener)
	for i, role := range item.Roles {
		right := predicted[i] == item.Chain[i]
		count(g.Role, role, right)
		if role == RoleOp || role == RoleState {
			count(g.Cell, fmt.Sprintf("%s %d %s", item.Family, item.Steps, role), right)
		}
	}
	return nil
}

// Err is nil if the base passes: it copies operations, knows its tables for
// every family and n, and would rather chat. Else it names every failure.
func (g *GateReport) Err() error {
	if g.Chatters.Of == 0 {
		return errors.New("gate: no items")
	}
	var all []error
	for _, key := range slices.Sorted(maps.Keys(g.Cell)) {
		want := GateState
		if strings.HasSuffix(key, RoleOp) {
			want = GateCopyCell
		}
		if c := g.Cell[key]; c.Share() < want {
			all = append(all, fmt.Errorf("gate: %s: want ≥ %.3f, have %.3f (%d of %d)", key, want, c.Share(), c.Right, c.Of))
		}
	}
	if c := g.Role[RoleOp]; c != nil && c.Share() < GateCopy {
		all = append(all, fmt.Errorf("gate: copying operations: want ≥ %.3f, have %.4f (%d of %d)", GateCopy, c.Share(), c.Right, c.Of))
	}
	if g.Chatters.Share() < GateChatter {
		all = append(all, fmt.Errorf("gate: chatter as first choice: want ≥ %.2f, have %.2f", GateChatter, g.Chatters.Share()))
	}
	return errors.Join(all...)
}
