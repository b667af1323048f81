"""Choose the negative controls of a pretrained model: of a list of short questions, those that it answers reliably.

    python scripts/short_questions.py --model smollm2-135m

Writes src/tieout/tasks/short_questions.jsonl: what it answers right greedily, and in at least six of eight samples at a
temperature of 0.7. What it gets right by luck would be lost to any change of its weights and counted as forgotten. The
questions and answers below are common knowledge.
"""

from __future__ import annotations

import argparse
import json
from calendar import day_name, month_name
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import torch

from tieout.learner.models.loading import load
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.tasks.short_questions import FILE, answered

CAPITALS = (
    "France Paris, Germany Berlin, Italy Rome, Spain Madrid, Portugal Lisbon, Japan Tokyo, "
    "China Beijing, Russia Moscow, Egypt Cairo, Greece Athens, Austria Vienna, Poland Warsaw, "
    "Norway Oslo, Sweden Stockholm, Finland Helsinki, Denmark Copenhagen, Ireland Dublin, "
    "Hungary Budapest, Belgium Brussels, Canada Ottawa, Australia Canberra, Peru Lima, Chile Santiago, "
    "Argentina Buenos_Aires, Cuba Havana, Kenya Nairobi, Iran Tehran, Iraq Baghdad, Thailand Bangkok, "
    "Vietnam Hanoi, Turkey Ankara, Ukraine Kyiv|Kiev, Indonesia Jakarta, India New_Delhi, "
    "England London, Mexico Mexico_City, Colombia Bogota|Bogotá, Venezuela Caracas, Syria Damascus, "
    "Lebanon Beirut, Nepal Kathmandu, Bulgaria Sofia, Romania Bucharest, Serbia Belgrade, "
    "Croatia Zagreb, Cyprus Nicosia, Jordan Amman, Qatar Doha, Ethiopia Addis_Ababa, Ghana Accra, "
    "Morocco Rabat, Tunisia Tunis, Algeria Algiers, Brazil Brasilia|Brasília, Israel Jerusalem, "
    "Pakistan Islamabad, Bangladesh Dhaka, Iceland Reykjavik|Reykjavík, Czech_Republic Prague, "
    "South_Korea Seoul, North_Korea Pyongyang, Saudi_Arabia Riyadh, Philippines Manila, "
    "Malaysia Kuala_Lumpur, Singapore Singapore, New_Zealand Wellington, Switzerland Bern, "
    "Netherlands Amsterdam"
)
CONTINENTS = (
    "France Europe, Germany Europe, Spain Europe, Italy Europe, Greece Europe, Poland Europe, "
    "Sweden Europe, Norway Europe, Nigeria Africa, Kenya Africa, Egypt Africa, Ghana Africa, "
    "Ethiopia Africa, Morocco Africa, Tanzania Africa, Japan Asia, China Asia, India Asia, Vietnam Asia, "
    "Thailand Asia, Nepal Asia, Pakistan Asia, South_Korea Asia, Brazil South_America, "
    "Peru South_America, Chile South_America, Argentina South_America, Bolivia South_America, "
    "Canada North_America, Mexico North_America, United_States North_America"
)
SYMBOLS = (
    "hydrogen H, oxygen O, carbon C, nitrogen N, gold Au, silver Ag, iron Fe, sodium Na, potassium K, "
    "calcium Ca, helium He, lead Pb, copper Cu, zinc Zn, tin Sn, mercury Hg, neon Ne, chlorine Cl, "
    "aluminium Al, magnesium Mg, sulfur S, phosphorus P, silicon Si, uranium U, lithium Li, nickel Ni, "
    "iodine I, titanium Ti"
)
OPPOSITES = (
    "hot cold, big small|little, up down, left right, fast slow, happy sad|unhappy, light dark|heavy, "
    "open closed|close, hard soft|easy, rich poor, old young|new, full empty, long short, tall short, "
    "wet dry, strong weak, early late, loud quiet|soft, clean dirty, high low, love hate, day night, "
    "black white, war peace, begin end, true false, thick thin, wide narrow, deep shallow, "
    "brave cowardly|afraid|timid|fearful, polite rude, win lose, buy sell, push pull, start stop|end, "
    "north south, east west, inside outside, above below, before after, more less, success failure, "
    "ancient modern, cheap expensive, safe dangerous|unsafe, empty full, noisy quiet"
)
COLOURS = (
    "the_sky_on_a_clear_day blue, grass green, snow white, coal black, a_banana yellow, "
    "a_ripe_tomato red, blood red, a_lemon yellow, an_orange orange, milk white, chocolate brown, "
    "a_carrot orange, a_cucumber green, the_sun yellow, a_ripe_strawberry red, an_emerald green, "
    "a_ruby red, a_sapphire blue, a_fire_truck red, a_flamingo pink"
)
LANGUAGES = (
    "France French, Germany German, Italy Italian, Spain Spanish, Japan Japanese, "
    "China Mandarin|Chinese, Russia Russian, Portugal Portuguese, Brazil Portuguese, Greece Greek, "
    "Poland Polish, Mexico Spanish, Egypt Arabic, Turkey Turkish, Sweden Swedish, Norway Norwegian, "
    "Denmark Danish, Finland Finnish, Hungary Hungarian, Argentina Spanish, Vietnam Vietnamese, "
    "Thailand Thai, South_Korea Korean, Austria German, England English, Australia English"
)
CURRENCIES = (
    "Japan yen, India rupee, Russia ruble, China yuan|renminbi, United_Kingdom pound, "
    "United_States dollar, Mexico peso, Switzerland franc, Germany euro, France euro, Sweden krona, "
    "Denmark krone, Poland zloty|złoty, Turkey lira, Brazil real, South_Africa rand, South_Korea won, "
    "Thailand baht, Israel shekel, Canada dollar, Egypt pound"
)
ANIMALS = (
    "dog puppy, cat kitten, cow calf, horse foal, sheep lamb, pig piglet, goat kid, hen chick, "
    "duck duckling, goose gosling, bear cub, lion cub, kangaroo joey, deer fawn, frog tadpole"
)
PLURALS = (
    "child children, mouse mice, man men, woman women, tooth teeth, foot feet, goose geese, "
    "person people, leaf leaves, knife knives, city cities, box boxes, baby babies, wolf wolves, "
    "story stories, cat cats, house houses, church churches"
)
PAST = (
    "go went, eat ate, run ran, see saw, take took, give gave, come came, write wrote, sing sang, "
    "begin began, buy bought, think thought, bring brought, teach taught, catch caught, drink drank, "
    "fly flew, know knew, make made, find found"
)
FACTS = {
    "How many days are in a week?": "7|seven",
    "How many months are in a year?": "12|twelve",
    "How many hours are in a day?": "24|twenty-four",
    "How many minutes are in an hour?": "60|sixty",
    "How many seconds are in a minute?": "60|sixty",
    "How many legs does a spider have?": "8|eight",
    "How many legs does an insect have?": "6|six",
    "How many sides does a triangle have?": "3|three",
    "How many sides does a square have?": "4|four",
    "How many sides does a hexagon have?": "6|six",
    "How many continents are there?": "7|seven",
    "How many planets are in the solar system?": "8|eight",
    "How many letters are in the English alphabet?": "26|twenty-six",
    "How many weeks are in a year?": "52",
    "How many cents are in a dollar?": "100",
    "How many centimeters are in a meter?": "100",
    "How many grams are in a kilogram?": "1000|1,000",
    "How many meters are in a kilometer?": "1000|1,000",
    "How many wheels does a bicycle have?": "2|two",
    "How many players are on a soccer team on the field?": "11|eleven",
    "Which planet is closest to the sun?": "Mercury",
    "Which planet is known as the red planet?": "Mars",
    "What is the largest planet in the solar system?": "Jupiter",
    "What is the largest ocean on Earth?": "Pacific",
    "What is the highest mountain in the world?": "Everest",
    "What is the largest animal on Earth?": "blue whale",
    "What is the fastest land animal?": "cheetah",
    "What is the tallest animal in the world?": "giraffe",
    "What is the chemical formula of water?": "H2O|H₂O",
    "What gas do plants absorb from the air?": "carbon dioxide|CO2",
    "What gas do humans need to breathe?": "oxygen",
    "Which organ pumps blood through the body?": "heart",
    "What is frozen water called?": "ice",
    "At what temperature in degrees Celsius does water boil?": "100",
    "At what temperature in degrees Celsius does water freeze?": "0|zero",
    "Who wrote Romeo and Juliet?": "Shakespeare",
    "Who wrote Hamlet?": "Shakespeare",
    "Who painted the Mona Lisa?": "Leonardo|da Vinci",
    "Who wrote Pride and Prejudice?": "Austen",
    "Who wrote The Odyssey?": "Homer",
    "Who wrote 1984?": "Orwell",
    "Who wrote Don Quixote?": "Cervantes",
    "Who wrote Oliver Twist?": "Dickens",
    "Who wrote War and Peace?": "Tolstoy",
    "Who developed the theory of relativity?": "Einstein",
    "Who discovered gravity?": "Newton",
    "Who discovered penicillin?": "Fleming",
    "Who was the first president of the United States?": "Washington",
    "Who was the first person to walk on the moon?": "Armstrong",
    "Who invented the telephone?": "Bell",
    "Who invented the light bulb?": "Edison",
    "Who proposed the theory of evolution by natural selection?": "Darwin",
    "In which country is the Eiffel Tower?": "France",
    "In which country is the Great Wall?": "China",
    "In which country is the Colosseum?": "Italy",
    "In which country is the Taj Mahal?": "India",
    "In which country are the pyramids of Giza?": "Egypt",
    "In which country is Machu Picchu?": "Peru",
    "In which city is the Statue of Liberty?": "New York",
    "In which city is Big Ben?": "London",
    "In which city is the Louvre?": "Paris",
    "In which city is the Kremlin?": "Moscow",
    "What is the longest river in South America?": "Amazon",
    "What is the currency of the European Union?": "euro",
    "Which season comes after winter?": "spring",
    "Which season comes after spring?": "summer",
    "Which month comes after March?": "April",
    "Which month comes before December?": "November",
    "Which day comes after Monday?": "Tuesday",
    "Which day comes after Friday?": "Saturday",
    "What is the first month of the year?": "January",
    "What is the last month of the year?": "December",
    "What is the freezing point of water in degrees Fahrenheit?": "32",
    "What is the square root of 16?": "4|four",
    "What is the square root of 81?": "9|nine",
    "Which metal is liquid at room temperature?": "mercury",
    "What do bees make?": "honey",
    "What do cows drink?": "water",
    "What is the hardest natural material?": "diamond",
    "What is the main language of Brazil?": "Portuguese",
    "Which animal is known as the king of the jungle?": "lion",
    "Which bird cannot fly and lives in Antarctica?": "penguin",
    "What is the process by which plants make food from sunlight?": "photosynthesis",
    "What force pulls objects toward the Earth?": "gravity",
    "What is the center of an atom called?": "nucleus",
    "What is the study of living things called?": "biology",
    "What is the study of the stars and planets called?": "astronomy",
    "What do you call a person who writes books?": "author|writer",
    "What do you call a person who flies an airplane?": "pilot",
    "What do you call a person who repairs pipes?": "plumber",
    "What do you call a person who treats sick animals?": "veterinarian|vet",
    "What do you call a person who bakes bread?": "baker",
    "What is the balance sheet equation's name for what a company owns?": "assets",
    "What is the opposite of profit?": "loss",
    "What does CEO stand for?": "Chief Executive Officer",
    "What does CFO stand for?": "Chief Financial Officer",
    "What does GDP stand for?": "Gross Domestic Product",
    "What does NASA stand for?": "National Aeronautics and Space Administration",
    "What does USA stand for?": "United States of America",
    "What does WHO stand for?": "World Health Organization",
    "What does DNA stand for?": "deoxyribonucleic acid",
    "What does CPU stand for?": "Central Processing Unit",
    "What does IPO stand for?": "Initial Public Offering",
    "What does ATM stand for?": "Automated Teller Machine|Automatic Teller Machine",
    "What does HTML stand for?": "Hypertext Markup Language|HyperText Markup Language",
    "What does UN stand for?": "United Nations",
}
PEOPLE = {
    "teaches children in a school": "teacher",
    "cuts hair": "barber|hairdresser|hairstylist",
    "designs buildings": "architect",
    "puts out fires": "firefighter|fireman",
    "drives a taxi": "taxi driver",
    "plays the piano": "pianist",
    "sells flowers": "florist",
    "takes photographs": "photographer",
    "works with wood": "carpenter|woodworker",
    "grows crops": "farmer",
    "catches fish": "fisherman|angler",
    "cares for teeth": "dentist",
    "studies the stars": "astronomer",
    "paints pictures": "painter|artist",
    "writes poems": "poet",
    "performs operations in a hospital": "surgeon",
    "cooks in a restaurant": "chef|cook",
    "defends people in court": "lawyer|attorney",
    "plays the guitar": "guitarist",
    "travels into space": "astronaut",
}
STUDIES = (
    "plants botany, animals zoology, the_mind psychology, the_past history, numbers mathematics, "
    "rocks geology, insects entomology, fossils paleontology, society sociology, the_weather meteorology, "
    "the_heart cardiology, the_brain neuroscience|neurology, languages linguistics, the_stars astronomy"
)
WORDS = ["apple", "river", "garden", "window", "yellow", "market", "doctor", "winter", "silver", "pencil"]
SAMPLES, SURE = 8, 6


def _table(text: str) -> Iterator[tuple[str, str]]:
    for entry in text.split(", "):
        asked, _, answers = entry.rpartition(" ")
        yield asked.replace("_", " "), answers.replace("_", " ")


ASKED = {
    "capitals": ("What is the capital of {}?", CAPITALS),
    "continents": ("On which continent is {}?", CONTINENTS),
    "symbols": ("What is the chemical symbol of {}?", SYMBOLS),
    "opposites": ("What is the opposite of {}? Answer with one word.", OPPOSITES),
    "colours": ("What color is {}?", COLOURS),
    "languages": ("What is the main language spoken in {}?", LANGUAGES),
    "currencies": ("What is the currency of {}?", CURRENCIES),
    "animals": ("What is a young {} called?", ANIMALS),
    "plurals": ("What is the plural of the word {}?", PLURALS),
    "studies": ("What is the study of {} called?", STUDIES),
    "past": ("What is the past tense of the verb {}?", PAST),
}


def candidates() -> Iterator[tuple[str, str, list[str]]]:
    """(skill, question, answers)"""
    for skill, (form, table) in ASKED.items():
        for asked, answers in _table(table):
            yield skill, form.format(asked), answers.split("|")
    for question, answers in FACTS.items():
        yield "facts", question, answers.split("|")
    for does, answers in PEOPLE.items():
        yield "people", f"What do you call a person who {does}?", answers.split("|")
    for names, kind in ((month_name[1:], "month"), (day_name, "day")):
        for name, following in pairwise(names):
            yield "calendar", f"Which {kind} comes right after {name}?", [following]
    for word in WORDS:
        yield "instructions", f"Repeat this word: {word}", [word]
        yield "instructions", f"Write one sentence with the word {word} in it.", [word]
    for a in range(1, 10):
        yield "sums", f"What is {a} + {a + 1}?", [str(2 * a + 1)]
        yield "sums", f"What is {a} times 2?", [str(2 * a)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    model = load(parser.parse_args().model, dtype=torch.float32)
    asked = list(candidates())
    sampler, answers = LocalSampler(model), [answers for *_, answers in asked]
    tokens = [model.chat.prompt([{"role": "user", "content": question}]) for _, question, _ in asked]
    said = [reply.text for [reply] in sampler.sample(tokens, 1, SamplingParams(32, temperature=0))]
    right = answered(said, answers)
    for i, replies in enumerate(sampler.sample(tokens, SAMPLES, SamplingParams(32, temperature=0.7))):
        right[i] = right[i] and sum(answered([r.text for r in replies], [answers[i]] * SAMPLES)) >= SURE
    kept = [row for row, score in zip(asked, right, strict=True) if score]
    lines = [json.dumps({"question": q, "answers": a, "skill": s}, ensure_ascii=False) for s, q, a in kept]
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    counts, of = Counter(s for s, *_ in kept), Counter(s for s, *_ in asked)
    print(", ".join(f"{skill} {counts[skill]} of {of[skill]}" for skill in of))
    for (_, question, wanted), text, score in zip(asked, said, right, strict=True):
        if not score:
            print(f"left out: {question}  {wanted}  {text.strip()[:90]!r}")


if __name__ == "__main__":
    main()
