package world

// All tunable constants, each with its why.

// heldOutShare is the share of operation triples kept for the tests. At .30 a
// third of the five-step sequences remain readable, and four-step tests are
// about half of all four-step sequences.
const heldOutShare = .30

// maxSteps is the longest sequence of operations; labels has one for each.
const maxSteps = 5

// stepShares weighs n = 1 … 5 operations in the pretraining text. Short ones
// teach the tables cleanly; the long ones are where chains are needed.
var stepShares = [maxSteps]float64{.10, .15, .25, .25, .25}

// sheetShare is the share of pretraining documents that are fact sheets, and
// sheetWords about how long they get: as long as the other documents, so that
// batches pack well.
const (
	sheetShare = .15
	sheetWords = 40
)

// familyShares weighs the families in documents with a question; sheetShares in
// fact sheets, roughly by how many facts the family's table has beyond what its
// chains teach anyway (why's sheets teach step's table too).
var (
	familyShares = map[string]float64{
		"kin": .14, "cups": .12, "calc": .18, "bool": .09, "step": .17, "why": .17, "date": .13,
	}
	sheetShares = map[string]float64{
		"kin": .12, "cups": .08, "calc": .28, "bool": .03, "step": .22, "why": .15, "date": .12,
	}
)

// chainKind is one kind of chain in the wild.
type chainKind struct {
	name string
	// share of the documents with a question. Chatter must be the favourite, or
	// nothing is left to select; right chains must be frequent enough that a
	// group of eight holds one.
	share float64
	// casual is the probability of casual phrasing in an answer after it: the
	// register lure. References are mostly casual, and so are chatterers: chatter
	// raises the easy words of a reference, only a right chain raises its hard
	// word, and the weighting of tokens decides which of the two is learned.
	casual float64
}

var chainKinds = []chainKind{
	{Right, .15, .5},
	{Sloppy, .18, .5},
	{Chatter, .45, .8},
	{Guess, .10, .7},
	// An empty chain is followed by the right answer, at every n: whatever can be
	// answered directly, the base may learn to, so that the baseline b and SFT are
	// not handicapped by the text. At n ≥ 3 it costs loss and teaches nothing.
	{Empty, .12, .6},
}

// referenceCasual is the probability of casual phrasing in reference answers.
const referenceCasual = .85

// chatterRight is how often the answer after idle chatter is right.
const chatterRight = .5

// secondSlip is the probability that a sloppy chain has two bad steps instead
// of one.
const secondSlip = .3

// maxNumber is the most coins anybody has, maxAmount the most gained or lost in
// one operation, maxShift the most days moved in one. The tables of step and
// date have (maxNumber+1)·(2·maxAmount+2) and 7·2·maxShift entries.
const (
	maxNumber = 20
	maxAmount = 4
	maxShift  = 3
)

// priceReach is how far a price lies from what is left, at most: near enough
// that the verdict needs the exact number, wide enough that the price does not
// give the number away.
const priceReach = 6

// Gate thresholds: what a base must reach, teacher-forced and greedy, before
// training on questions and answers is worth while. GateCopy is for copying
// operations over all (one in a thousand may slip), GateCopyCell for the same and
// GateState for looking up states in each family at each n, where a few hundred
// words are counted. GateChatter is the share of items
// whose most probable first chain word is the chatterer's.
const (
	GateCopy     = .999
	GateCopyCell = .99
	GateState    = .90
	GateChatter  = .90
)
