// Node's client of typed questions, as in questions_in_python.py:
// `node questions_in_node.mjs NAME URL MODEL QUESTIONS WAY...`. QUESTIONS is assistant.py's, as JSON.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [, url, model, questions, ...wanted] = process.argv.slice(2);
const { MAIL, TEAMS, ANGER } = JSON.parse(questions);
const here = createRequire(`${process.cwd()}/package.json`);
const load = (one) => import(pathToFileURL(here.resolve(one)));

const { TypeSafeClient, choice, noul, score } = await load('@typesafe-ai/sdk');
const client = new TypeSafeClient({ apiKey: 'k', baseUrl: url, baseURL: url, retry: { maxRetries: 0 } });

const ways = {
  decide: async () => {
    const criteria = Object.fromEntries(TEAMS.map((team) => [team, null]));
    const { answers } = await client.systemOne({
      state: { document: MAIL },
      model,
      questions: {
        team: choice('Whose is it?', criteria),
        urgent: noul('Is it urgent?'),
        anger: score('How angry?', ANGER),
      },
    });
    return [answers.team.choice, answers.team.probabilities[answers.team.choice], answers.urgent.noul, answers.anger.score];
  },
  refuse: async () => {
    try {
      await client.systemOne({ state: 's', model, questions: { q: score('i', ['same', 'same']) } });
    } catch (error) {
      return `${error.constructor.name}: ${error.message}`;
    }
    return 'taken';
  },
};

const found = {};
for (const way of wanted.filter((each) => ways[each])) {
  try {
    found[way] = { value: await ways[way]() };
  } catch (error) {
    found[way] = { error: `${error.constructor.name}: ${error.message}` };
  }
}
console.log(JSON.stringify(found));
