"""Ask a pretrained model other questions than its negative controls, and keep what it says: rows against forgetting.

    python scripts/short_questions.py --dtype bf16 && python scripts/short_answers.py --dtype bf16

Writes src/tieout/tasks/short_answers.jsonl: the prompts below and the questions that are no controls (it does not
know their answers reliably), and the model's own greedy replies where it ended them itself. Whether they are true does
not matter: mixed into the rows of another task, they keep the model where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from short_questions import candidates

from tieout.learner.models.loading import load
from tieout.rows.leakage import find_leaks
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.tasks.short_questions import REPLIES, task

ASKED = {
    "Explain in one sentence what {} is.": (
        "a volcano, inflation, a computer, democracy, an earthquake, electricity, a library, evolution, "
        "music, a contract, a rainbow, a vaccine, interest on a loan, a budget, the moon, a desert, a poem, "
        "an engine, memory, a battery, a bridge, climate, a satellite, friendship, a museum, a virus, glass, "
        "a recipe, insurance, a tax"
    ),
    "Name three {}.": (
        "fruits, vegetables, musical instruments, sports, colors, tools, kinds of weather, things in a "
        "kitchen, things in a school bag, birds, trees, insects, fish, rivers, mountains, inventors, "
        "painters, composers, kinds of furniture, pieces of clothing, spices, drinks, vehicles, jobs in a "
        "hospital, feelings, parts of a car, parts of the body, board games, kinds of shop, metals"
    ),
    "Give one tip for {}.": (
        "sleeping well, learning a language, saving money, writing a letter, growing tomatoes, staying "
        "healthy, packing a suitcase, making friends, studying for an exam, cooking rice, cleaning a bicycle, "
        "speaking in public, walking a dog, reading faster, planning a trip, taking photographs, keeping a "
        "room tidy, waking up early, buying a used car, running a marathon"
    ),
    "Why {}?": (
        "do leaves fall in autumn, is the sea salty, do people laugh, do we need sleep, do cats purr, does "
        "metal rust, do birds sing, does ice float, do we have seasons, do people wear hats, is exercise "
        "useful, do bees visit flowers, does bread rise, do children play, do stars shine, do we brush our "
        "teeth, do ships not sink, do people keep diaries, do onions make us cry, does the moon change its "
        "shape"
    ),
    "Write one short sentence about {}.": (
        "a lighthouse, an old train, a rainy day, a small village, a busy street, a lost key, a kind teacher, "
        "a birthday, the first snow, a long journey, a broken clock, a quiet lake, a hungry fox, a letter "
        "from a friend, a new bicycle, a farm, a storm at sea, a painter, a sleeping baby, a city at night"
    ),
    "Is it true that {}? Answer briefly.": (
        "fish can breathe under water, the moon is made of cheese, trees produce oxygen, all birds can fly, "
        "water is wet, sugar is sweet, a tomato is a fruit, bats are blind, glass is made from sand, wood "
        "floats, people have five senses, a whale is a fish, sound travels faster than light, cats can climb, "
        "salt dissolves in water"
    ),
    "What is {} used for?": (
        "a hammer, a telescope, soap, a thermometer, a compass, a needle, a map, salt, a ladder, an umbrella, "
        "a calculator, a microscope, a dictionary, a kettle, a camera, a saw, a calendar, a helmet, a broom, "
        "an invoice"
    ),
    "Who was {}?": (
        "Cleopatra, Marie Curie, Mozart, Abraham Lincoln, Napoleon, Aristotle, Galileo, Julius Caesar, "
        "Beethoven, Gandhi, Joan of Arc, Vincent van Gogh, Nelson Mandela, Confucius, Alexander the Great"
    ),
    "Describe {} in a few words.": (
        "a lemon, the ocean, a good friend, a forest, a thunderstorm, a circus, a castle, an elephant, a "
        "snowflake, a sunset, a hospital, a mirror, a spider, a bakery, a pirate"
    ),
    "Which country does the city of {} belong to?": (
        "Toronto, Sydney, Barcelona, Milan, Munich, Mumbai, Shanghai, Rio de Janeiro, Istanbul, Osaka, "
        "Manchester, Lyon, Chicago, Karachi, Lagos, Marseille, Naples, Hamburg, Seville, Kyoto, Melbourne, "
        "Vancouver, Casablanca, Krakow, Rotterdam"
    ),
    "What is {} made of?": (
        "paper, bread, cheese, a candle, a tire, steel, butter, wine, a book, chocolate, a sweater, concrete, "
        "a coin, a brick, yogurt, a rope, ketchup, a violin, a tent, ink"
    ),
    "What sound does a {} make?": (
        "dog, cat, cow, sheep, lion, duck, frog, bee, snake, wolf, owl, horse, rooster, pig, clock"
    ),
    "Give a synonym for {}.": (
        "happy, big, fast, smart, angry, beautiful, tired, easy, strange, quiet, funny, important, honest, "
        "scared, begin, answer, help, choose, build, speak"
    ),
    "What is the first letter of the word {}?": (
        "table, orange, mountain, elephant, kitchen, school, island, queen, zebra, umbrella"
    ),
    "Copy this sentence: {}": (
        "The cat sleeps., We went to the beach., It is raining today., She likes old films., The train was "
        "late., Dinner is ready., He plays the piano., My brother is tall., The shop opens at nine., Birds "
        "fly south in autumn., Please close the door., I lost my umbrella."
    ),
    "What is {}?": (
        "10 - 3, 8 - 5, 12 - 4, 9 - 7, 20 - 10, 15 - 6, 3 times 3, 5 times 5, 4 times 6, 10 times 7, half of "
        "10, half of 18, 20 + 30, 40 + 15, 100 + 200"
    ),
    "Write the number {} in words.": ("1, 3, 5, 8, 11, 14, 17, 20, 30, 45, 60, 100"),
    "Where would you find {}?": (
        "a polar bear, a camel, a shark, a pilot, a judge, a waiter, a cactus, a lighthouse, an anchor, a "
        "chimney, a stage, a pillow, a blackboard, a cash register, a tractor"
    ),
    "What is the comparative form of the adjective {}?": (
        "tall, small, warm, nice, quick, young, bright, happy, good, bad, simple, dark"
    ),
    "What is the job of a {}?": (
        "teacher, nurse, farmer, judge, carpenter, librarian, firefighter, chef, tailor, accountant, "
        "journalist, sailor, dentist, gardener, cashier"
    ),
    "What do the letters {} mean?": (
        "FBI, UNESCO, PDF, RAM, EU, NATO, VAT, USB, GPS, BBC, IMF, SQL, URL, AI, TV"
    ),
    "Who is the author of {}?": (
        "Moby-Dick, Emma, Frankenstein, Dracula, Jane Eyre, The Hobbit, Animal Farm, Great Expectations, "
        "Macbeth, Anna Karenina, The Great Gatsby, Robinson Crusoe"
    ),
    "What unit is used to measure {}?": (
        "temperature, weight, distance, time, electric current, pressure, energy, speed, volume, the angle of "
        "a corner"
    ),
    "Which sport is played with {}?": (
        "a racket, a bat, a puck, a hoop, a shuttlecock, oars, a golf ball, a net and a volleyball, skates, "
        "gloves in a ring"
    ),
    "Answer yes or no: {}?": (
        "is fire hot, can a stone swim, is Monday a day, is a rose a flower, do cars have wheels, is the "
        "number 4 odd, is milk a drink, do tables eat, is an apple a fruit, is a horse a bird"
    ),
    "Use the word {} in a question.": (
        "table, summer, music, bridge, coffee, holiday, forest, camera, bread, ticket"
    ),
    "Which of these is an animal: {}?": (
        "chair or tiger, rabbit or spoon, cloud or monkey, turtle or shoe, lamp or camel, wall or goat, zebra "
        "or pen, plate or crab"
    ),
    "{}": (
        "Hello!, Good morning, How are you today?, Thank you for your help., What can you do?, Who are you?, "
        "Tell me something interesting., I am feeling tired today., Can you help me with my homework?, "
        "Goodbye!"
    ),
}

THINGS = (
    "dog, horse, tree, river, bridge, train, ship, kitchen, garden, school, hospital, market, book, "
    "letter, clock, window, chair, candle, pencil, coat, hat, shoe, apple, loaf of bread, cup of tea, "
    "egg, carrot, piano, drum, guitar, doctor, farmer, baker, soldier, king, child, neighbor, storm, "
    "cloud, island, mountain, desert, beach, forest, city, village, road, tunnel, tower, church"
)
ABOUT = (
    "What is a {}?",
    "What can you do with a {}?",
    "Write a question about a {}.",
    "Name something that goes with a {}.",
    "Tell me one fact about a {}.",
    "What does the word {} mean?",
    "Write a short title for a story about a {}.",
    "Where might I see a {}?",
    "Why would somebody need a {}?",
    "Use the word {} in a sentence about winter.",
)


def prompts() -> Iterator[str]:
    """What is asked."""
    for form, subjects in ASKED.items():
        for subject in subjects.split(", "):
            yield form.format(subject)
    for thing in THINGS.split(", "):
        yield from (form.format(thing) for form in ABOUT)
    controls = task.rows("test")
    known = {row["prompt"][0]["content"] for row in controls}
    others = [{"prompt": [{"role": "user", "content": q}]} for _, q, _ in candidates() if q not in known]
    alike = {leak.train for leak in find_leaks({"others": others}, {"controls": controls})}
    for i, row in enumerate(others):
        if f"others, row {i + 1}" not in alike:
            yield row["prompt"][0]["content"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="fp32")
    options = parser.parse_args()
    model = load(options.model, dtype=options.dtype)
    asked = list(prompts())
    tokens = [model.chat.prompt([{"role": "user", "content": text}]) for text in asked]
    said = LocalSampler(model).sample(tokens, 1, SamplingParams(max_new_tokens=160, temperature=0))
    kept = [(asked[i], reply.text) for i, [reply] in enumerate(said) if reply.finish_reason == "stop"]
    lines = [json.dumps({"question": q, "reply": r}, ensure_ascii=False) for q, r in kept]
    REPLIES.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(kept)} of {len(asked)}")


if __name__ == "__main__":
    main()
